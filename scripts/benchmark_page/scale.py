"""How things grow with the number of clips."""

from typing import Any

from benchmark_page.tables import table

FORMS = {"jsonl": "JSONL", "webvid": "WebVid", "msrvtt": "MSR-VTT's form", "shards": "shards"}


def scale(report: dict[str, Any]) -> list[str]:
    """The section on starting and memory."""
    rows = [
        [
            f"{FORMS[form]}, {found['clips']:,}",
            f"{found['first_start']['first_batch_seconds']:.1f} ({found['first_start']['read_cpu_seconds']:.1f})",
            f"{found['second_start']['first_batch_seconds']:.1f} ({found['second_start']['read_cpu_seconds']:.1f})",
            f"{found['first_start']['reading_peak_mb']:.0f}",
            f"{found['second_start']['process_mb']:.0f}",
            f"{max(found['second_start']['worker_growth_mb']):.0f}",
            f"{found['second_start']['items']:,}",
        ]
        for form, sizes in report["forms"].items()
        for found in sizes
    ]
    later = sorted({found["clips"] for sizes in report["forms"].values() for found in sizes if "commit" in found})
    return [
        "## Starting with many clips",
        "",
        f"`scripts/benchmarks/scale.py`: one caption a clip, a loader with {report['workers']} workers, decoding a "
        f"constant; {report['machine']['cpus']} CPU threads, with a load of {report['machine']['load']:.1f} from other "
        "programs. Seconds are of the wall to the first batch, in brackets those that reading the annotation computed. "
        "At a first start files are looked for, and from 100,000 clips on the table is kept for the next one; the "
        "indexes of shards are made by processes of their own. Memory is what a process has to itself, in MB: the most "
        "while an annotation is read for the first time; in training, beyond what was there before; and what a worker "
        "gained from its first batch to the last item."
        + (f" Rows of {' and '.join(f'{size:,}' for size in later)} clips are of a later run." if later else ""),
        "",
        *table(
            ["clips", "first start, s", "next start, s", "reading, MB", "training, MB", "worker, MB", "items"],
            rows,
        ),
    ]

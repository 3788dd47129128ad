"""Start-up time and memory by number of clips."""

from typing import Any

from benchmark_page.tables import table

FORMS = {"jsonl": "JSONL", "webvid": "WebVid", "msrvtt": "MSR-VTT's format", "shards": "shards"}


def scale(report: dict[str, Any]) -> list[str]:
    """Make the section on start-up time and memory."""
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
        "## Start-up with many clips",
        "",
        f"`scripts/benchmarks/scale.py`: one caption per clip, a loader with {report['workers']} workers, decoding "
        f"replaced by a constant; {report['machine']['cpus']} CPU threads, with a load of "
        f"{report['machine']['load']:.1f} from other programs. Seconds are wall time until the first batch; in "
        "brackets, CPU time for reading the annotation. The first start locates the files and, from 100,000 clips on, "
        "caches the table for the next; separate processes index shards. Memory is private to a process, in MB: the "
        "peak while an annotation is first read; the growth during training; and a worker's growth from its first "
        "batch to the last item."
        + (f" Rows of {' and '.join(f'{size:,}' for size in later)} clips are from a later run." if later else ""),
        "",
        *table(
            ["clips", "first start, s", "next start, s", "reading, MB", "training, MB", "worker, MB", "items"],
            rows,
        ),
    ]

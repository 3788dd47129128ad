"""How fast shards are read, and what a kept index saves."""

from typing import Any

from benchmark_page.tables import table

WORK = {"bytes": "bytes and captions", "pictures": "decoded and scaled"}


def shards(report: dict[str, Any]) -> list[str]:
    """The section on shards."""
    rows = [
        [
            WORK[work],
            workers,
            *(f"{found[name]['samples_per_second']:,.0f}" if name in found else "–" for name in _READERS),
            *(f"{found[ratio]:.2f}" if ratio in found else "–" for ratio in ("ratio", "cpu_ratio")),
        ]
        for work, of_workers in report["throughput"]["work"].items()
        for workers, found in of_workers.items()
    ]
    many = report["many"]
    walks = [
        [
            name,
            f"{walk['cpu_microseconds_per_sample']:.0f}",
            f"{walk['opened_per_sample']:.4f}",
            f"{walk['megabytes']:.1f}",
        ]
        for name, walk in many["walks"].items()
    ]
    return [
        "## Shards",
        "",
        f"`scripts/benchmarks/shards.py`: {report['throughput']['samples']:,} JPEGs of 64 to 256 pixels a side in "
        f"{report['throughput']['shards']} shards, shuffled, batches of {report['throughput']['batch']}, rounds "
        f"interleaved, {report['machine']['processors']} processors with a load of {report['machine']['load'][0]:.1f}. "
        "This project does all that it does in training (a seed for each sample, images upright), webdataset "
        f"{report['versions']['webdataset']} the bare work with the same decoder. Ratios above 1 are in favour of this "
        "project, medians of the rounds' own; that of CPU time is less touched by what else the machine does.",
        "",
        *table(["work", "workers", *(f"{name}, samples/s" for name in _READERS), "ratio", "ratio, CPU"], rows),
        "",
        f"{many['shards']:,} shards of {many['samples'] // many['shards']} samples: indexes made in "
        f"{many['index_seconds']:.0f} s by two processes, opened in {many['open_seconds']:.2f} s with "
        f"{many['open_megabytes']:.1f} MB. What {many['walks']['windows']['samples']:,} samples of a walk cost:",
        "",
        *table(["at random", "CPU µs a sample", "files opened a sample", "MB"], walks),
    ]


_READERS = ("evlvideo", "webdataset")


def video_index(report: dict[str, Any]) -> list[str]:
    """The section on indexes that are kept."""
    rows = [
        [
            name,
            f"{found['median_milliseconds']['read_anew']:.0f}",
            f"{found['median_milliseconds']['kept']:.0f}",
            f"{found['ratio']:.2f}",
            f"{found['bytes_read']['read_anew'] / 1e6:.2f}",
            f"{found['bytes_read']['kept'] / 1e6:.2f}",
            f"{found['index_bytes']:,}",
        ]
        for name, found in report["clips"].items()
    ]
    return [
        "### A video's index, kept",
        "",
        f"`scripts/benchmarks/video_index.py`: {report['frames']} uniform frames, with the file read through for its "
        "index and with the index kept from before; CPU milliseconds, rounds interleaved, and megabytes read of the "
        "file.",
        "",
        *table(["clip", "ms, anew", "ms, kept", "ratio", "MB, anew", "MB, kept", "bytes of an index"], rows),
    ]

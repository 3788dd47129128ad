"""How fast shards are read, and what a cached video index saves."""

from typing import Any

from benchmark_page.tables import table

WORK = {"bytes": "bytes and captions", "pictures": "decoded and scaled"}


def shards(report: dict[str, Any]) -> list[str]:
    """Make the section on shards."""
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
        f"`scripts/benchmarks/shards.py`: {report['throughput']['samples']:,} JPEGs with sides of 64 to 256 pixels in "
        f"{report['throughput']['shards']} shards, shuffled, batches of {report['throughput']['batch']}, rounds "
        f"interleaved, {report['machine']['processors']} processors with a load of {report['machine']['load'][0]:.1f}. "
        "This project does everything that it does in training (a seed for each sample, upright images); webdataset "
        f"{report['versions']['webdataset']} does the bare work with the same decoder. Ratios are medians over rounds, "
        "and above 1 this project is faster; other load on the machine disturbs the ratio of CPU time less.",
        "",
        *table(["work", "workers", *(f"{name}, samples/s" for name in _READERS), "ratio", "ratio, CPU"], rows),
        "",
        f"{many['shards']:,} shards of {many['samples'] // many['shards']} samples: two processes index them in "
        f"{many['index_seconds']:.0f} s; they open in {many['open_seconds']:.2f} s with "
        f"{many['open_megabytes']:.1f} MB. Cost of reading {many['walks']['windows']['samples']:,} samples:",
        "",
        *table(["shuffled", "CPU µs per sample", "files opened per sample", "MB"], walks),
    ]


_READERS = ("evlvideo", "webdataset")


def video_index(report: dict[str, Any]) -> list[str]:
    """Make the section on cached video indexes."""
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
        "### Cached video indexes",
        "",
        f"`scripts/benchmarks/video_index.py`: {report['frames']} uniform frames, with the index read anew from the "
        "file and with a cached index; CPU milliseconds and megabytes read from the file, rounds interleaved.",
        "",
        *table(["clip", "ms, anew", "ms, cached", "ratio", "MB, anew", "MB, cached", "index, bytes"], rows),
    ]

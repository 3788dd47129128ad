"""Measure `evlvideo caption` on clips of the mini dataset: in batches with workers, one by one, and its memory.

    python scripts/benchmarks/captioning.py

Runs of both ways alternate. Writes `docs/benchmarks/captioning.json`.
"""

import argparse
import json
import logging
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from evlvideo.assembly.clips import read_clips
from evlvideo.config.loading import config_of
from evlvideo.config.run import RunConfig
from evlvideo.files import write_json
from evlvideo.inference.caption_files import caption_files
from evlvideo.results.provenance import git_commit, versions

ROOT = Path(__file__).parents[2]
WAYS = {"batches": [], "one by one": ["generation.batch_size=1", "data.num_workers=0"]}
SHORT = ["generation.num_beams=1", "generation.min_new_tokens=1", "generation.max_new_tokens=1"]
"""Length of captions when memory is measured, short to save time."""


def main() -> None:
    """Measure both ways in turn, and memory in separate processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=60, help="files to caption (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="data.num_workers (%(default)s)")
    parser.add_argument(
        "--memory-files", type=int, nargs=2, default=(50, 500), help="numbers of files to compare memory for"
    )
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "captioning.json")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    if options.peak is not None:
        sys.stdout.write(str(peak_mib(options.peak, options.workers)))
        return
    report = measure(options.files, options.repeats, options.workers)
    command = [sys.executable, __file__, "--workers", str(options.workers), "--peak"]
    report["peak_mib"] = {
        count: float(subprocess.run([*command, str(count)], capture_output=True, text=True, check=True).stdout)
        for count in options.memory_files
    }
    write_json(options.out, report)
    sys.stdout.write(json.dumps({name: report[name] for name in ("median_seconds", "ratio", "peak_mib")}) + "\n")


def measure(count: int, repeats: int, workers: int) -> dict[str, Any]:
    """Measure the seconds of both ways, from opening the model to the last caption."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    captions: dict[str, list[str]] = {}
    for _ in range(repeats + 1):
        for way, changes in WAYS.items():
            config = _config(workers, changes)
            videos = _videos(config, count)
            started = time.perf_counter()
            captions[way] = [text for file in caption_files(videos, "mini", config=config) for text in file.captions]
            seconds[way].append(time.perf_counter() - started)
    # The first run of each is a warm-up.
    seconds = {way: times[1:] for way, times in seconds.items()}
    medians = {way: statistics.median(times) for way, times in seconds.items()}
    return {
        "machine": {
            "threads": torch.get_num_threads(),
            "cpus": os.cpu_count(),
            "load": os.getloadavg()[0],
            "platform": platform.platform(),
        },
        "versions": versions(),
        "commit": git_commit(),
        "files": count,
        "workers": workers,
        "seconds": seconds,
        "median_seconds": medians,
        "ratio": medians["one by one"] / medians["batches"],
        "captions_equal": captions["one by one"] == captions["batches"],
    }


def peak_mib(count: int, workers: int) -> float:
    """Measure the peak memory of this process while it captions files."""
    config = _config(workers, SHORT)
    for _ in caption_files(_videos(config, count), "mini", config=config):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _config(workers: int, changes: list[str]) -> RunConfig:
    return config_of(["data.dataset=mini", f"data.num_workers={workers}", *changes])


def _videos(config: RunConfig, count: int) -> list[Path]:
    videos = [clip.video for split in ("test", "validate", "train") for clip in read_clips(config.data, split)]
    return [videos[number % len(videos)] for number in range(count)]


if __name__ == "__main__":
    main()

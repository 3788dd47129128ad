"""Time one pass of the merged contextualizer over the mini dataset's clips, from videos and from stored features.

    python scripts/benchmarks/features.py

Runs of both kinds alternate; times exclude validation. Writes `docs/benchmarks/features.json`.
"""

import argparse
import json
import logging
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from evlvideo.assembly.clips import read_clips
from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.files import read_json, write_json
from evlvideo.inference.extract_features import extract_features
from evlvideo.results.provenance import git_commit, versions
from evlvideo.results.run_directory import LOG_NAME, SUMMARY_NAME
from evlvideo.training.run import train

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Extract once, then train from both in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each kind (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "features.json")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as directory:
        report = measure(Path(directory), options.repeats)
    write_json(options.out, report)
    sys.stdout.write(json.dumps({name: report[name] for name in ("median_seconds", "ratio", "losses_equal")}) + "\n")


def measure(directory: Path, repeats: int) -> dict[str, Any]:
    """Measure losses and seconds of both kinds."""
    features = directory / "features"
    started = time.perf_counter()
    extract_features(_config(directory / "unused", str(features)), ["train", "validate"])
    extraction_seconds = time.perf_counter() - started
    seconds: dict[str, list[float]] = {"videos": [], "features": []}
    losses: dict[str, list[list[float]]] = {"videos": [], "features": []}
    for place in range(repeats):
        for kind, source in (("videos", None), ("features", str(features))):
            run = train(_config(directory / f"{kind}-{place}", source))
            seconds[kind].append(read_json(run / SUMMARY_NAME)["training_seconds"])
            losses[kind].append(_losses(run))
    medians = {kind: statistics.median(values) for kind, values in seconds.items()}
    steps = len(losses["videos"][0])
    return {
        "machine": {"threads": torch.get_num_threads(), "platform": platform.platform()},
        "versions": versions(),
        "commit": git_commit(),
        "steps": steps,
        "extraction_seconds": extraction_seconds,
        "seconds": seconds,
        "median_seconds": medians,
        "ratio": medians["videos"] / medians["features"],
        "losses_equal": all(run == losses["videos"][0] for runs in losses.values() for run in runs),
        "largest_difference": max(
            abs(one - other) for one, other in zip(losses["videos"][0], losses["features"][0], strict=True)
        ),
    }


def _config(out: Path, features: str | None) -> RunConfig:
    config = load_config(ROOT / "configs" / "mini" / "merged.yaml", [f"output_dir={out}", "data.augment=false"])
    config.data.features = features
    config.data.validation_clips = 1
    clips = len(read_clips(config.data, config.data.train_split))
    config.training.max_steps = config.training.eval_steps = -(-clips // config.training.batch_size)
    config.training.log_steps = 1
    return config


def _losses(run: Path) -> list[float]:
    entries = [json.loads(line) for line in (run / LOG_NAME).read_text(encoding="utf-8").splitlines()]
    return [entry["loss"] for entry in entries if "loss" in entry]


if __name__ == "__main__":
    main()

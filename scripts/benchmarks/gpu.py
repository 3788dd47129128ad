"""Measure EVLGen at full size on a GPU: seconds, memory, and where steps wait for the device.

    python scripts/benchmarks/gpu.py

Takes at most nine minutes on a GPU with 80 GB, and needs no network, dataset or weights: clips are noise, and weights
are random with the real sizes. Parts run one after another, each in a separate process with a time limit. A part that
cannot run is recorded with the reason, and the others continue. The file is written after each part:

    cuda_tests     the tests of the suite that need a GPU
    estimates      what `evlvideo estimate` says of the cases below (on the CPU, during the tests)
    card           the machine, and a large matrix product
    training       a cross-entropy step: image, video and merged form, with and without gradient checkpointing
    self_critical  a self-critical step with five samples
    captioning     clips per second, with and without beam search
    connectors     the TomeFormer with r = 19 and r = 0 and BLIP-2's Q-Former; token merging alone
    syncs          where a step waits for the device
    transfer       copying a batch to the GPU, as bytes and as floats
    compiled       a cross-entropy step compiled by torch, in the remaining time

`--small` runs everything at toy size, also on a CPU. Writes `docs/benchmarks/gpu-NAME.json`, with the card's name.
"""

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from gpu_parts.process import Part
from gpu_parts.shares import add_shares

from evlvideo.files import write_json
from evlvideo.results.provenance import git_commit, versions

ROOT = Path(__file__).parents[2]
SECONDS = {
    "cuda_tests": 120,
    "estimates": 120,
    "card": 40,
    "training": 110,
    "self_critical": 60,
    "captioning": 60,
    "connectors": 40,
    "syncs": 60,
    "transfer": 20,
    "compiled": 300,
}
"""Name of a part → its time limit on a GPU, in order."""
TOGETHER = ("cuda_tests", "estimates")
"""Parts that run at the same time; they disturb neither each other nor a measurement."""
LEAST_SECONDS = 5
"""Shortest remaining time in which a part is started."""


def main(arguments: list[str] | None = None) -> None:
    """Run the parts, and write the report after each."""
    options = _options(arguments)
    if not options.small and not torch.cuda.is_available():
        sys.exit("torch finds no GPU. Run this on a machine with one, or run everything at toy size with --small.")
    out = options.out or _default_out(options.small)
    run_parts(options.parts, "small" if options.small else "full", out, 60 * options.minutes)
    print(out)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="toy size, also on a CPU")
    parser.add_argument("--minutes", type=float, default=9, help="skip parts that would start later (%(default)s)")
    parser.add_argument("--parts", type=_parts, default=list(SECONDS), help="parts to run, such as training,captioning")
    parser.add_argument("--out", type=Path, help="file to write")
    return parser.parse_args(arguments)


def _parts(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SECONDS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no part {unknown[0]!r}; allowed: {', '.join(SECONDS)}")
    return [name for name in SECONDS if name in names]


def _default_out(small: bool) -> Path:
    if small:
        return ROOT / "runs" / "gpu-small.json"
    name = re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(0).lower()).strip("-")
    return ROOT / "docs" / "benchmarks" / f"gpu-{name}.json"


def run_parts(names: list[str], size: str, out: Path, seconds: float) -> None:
    """Run parts one after another until time is up, and write the file after each.

    Args:
        names: names of parts.
        size: name of a size.
        out: the file.
        seconds: time for all parts.
    """
    started = time.monotonic()
    report: dict[str, Any] = {"size": size, "seconds": 0.0, "versions": versions(), "commit": git_commit(), "parts": {}}
    report["parts"] = {name: {"state": "waiting"} for name in names}
    groups = [[name for name in names if name in TOGETHER], *([name] for name in names if name not in TOGETHER)]
    with tempfile.TemporaryDirectory() as directory:
        for group in filter(None, groups):
            left = seconds - (time.monotonic() - started)
            report["parts"] |= _run_together(group, size, Path(directory), left)
            report["seconds"] = time.monotonic() - started
            add_shares(report["parts"])
            write_json(out, report)
            for name in group:
                result = report["parts"][name]
                print(f"{report['seconds']:6.0f} s  {name}: {result['state']}", result.get("reason", "")[-300:])


def _run_together(names: list[str], size: str, directory: Path, left: float) -> dict[str, Any]:
    if left < LEAST_SECONDS:
        return {name: {"state": "skipped", "reason": "the time was over"} for name in names}
    parts = {name: Part(name, size, directory, min(SECONDS[name], left)) for name in names}
    try:
        return {name: part.result() for name, part in parts.items()}
    finally:
        for part in parts.values():
            part.stop()


if __name__ == "__main__":
    main()

"""What EVLGen at its full size takes on a GPU: seconds, memory, and where steps wait.

    python scripts/benchmarks/gpu.py

One command, at most nine minutes on a GPU with 80 GB; no network, no dataset, no weights: clips are noise, weights are
random, of the real sizes. Parts run one after the other, each in a process of its own and with a time limit;
what cannot run is recorded with the reason, and the others go on. The file is written after each part:

    cuda_tests     the tests of the suite that need a GPU
    estimates      what `evlvideo estimate` says of the cases below (beside the tests, on the CPU)
    card           the machine, and a large matrix product
    training       a cross-entropy step: image, video and merged form, with gradient checkpointing and without
    self_critical  a self-critical step with five samples
    captioning     clips a second, with beams and without
    connectors     the TomeFormer with r = 19 and r = 0 and BLIP-2's Q-Former; token merging alone
    syncs          where a step waits for the device
    transfer       a batch on its way to the GPU, as bytes and as numbers
    compiled       a cross-entropy step compiled by torch, in the time that is left

`--small` runs all of it in toy size, on a CPU too. Writes `docs/benchmarks/gpu-NAME.json`, with the card's name.
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
"""Name of a part → its time limit on a GPU, in the order of the parts."""
TOGETHER = ("cuda_tests", "estimates")
"""The first two do not disturb each other, nor any measurement."""
LEAST_SECONDS = 5
"""A part is not begun in less time."""


def main(arguments: list[str] | None = None) -> None:
    """Run the parts, and write what came out after each."""
    options = _options(arguments)
    if not options.small and not torch.cuda.is_available():
        sys.exit("There is no GPU that torch can use. Run this where there is one, or all of it in small with --small.")
    out = options.out or _default_out(options.small)
    run_parts(options.parts, "small" if options.small else "full", out, 60 * options.minutes)
    print(out)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="toy size, on a CPU too")
    parser.add_argument(
        "--minutes", type=float, default=9, help="parts that would begin later are skipped (%(default)s)"
    )
    parser.add_argument("--parts", type=_parts, default=list(SECONDS), help="some of the parts, as training,captioning")
    parser.add_argument("--out", type=Path, help="file to write")
    return parser.parse_args(arguments)


def _parts(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SECONDS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no part {unknown[0]!r}; there are {', '.join(SECONDS)}")
    return [name for name in SECONDS if name in names]


def _default_out(small: bool) -> Path:
    if small:
        return ROOT / "runs" / "gpu-small.json"
    name = re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name(0).lower()).strip("-")
    return ROOT / "docs" / "benchmarks" / f"gpu-{name}.json"


def run_parts(names: list[str], size: str, out: Path, seconds: float) -> None:
    """Run parts one after the other until the time is over, and write the file after each.

    Args:
        names: of parts.
        size: name of a size.
        out: the file.
        seconds: for all together.
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

"""Study staged alignment on the mini images: five questions, each one command.

    python scripts/benchmarks/alignment.py masks       # do soft tokens see each other in the language model?
    python scripts/benchmarks/alignment.py captions    # do generated captions teach faster than human ones?
    python scripts/benchmarks/alignment.py length      # how much of a budget should go to the alignment?
    python scripts/benchmarks/alignment.py questions   # from which stage does it adapt to questions?
    python scripts/benchmarks/alignment.py stages      # four stages against one at equal multiply-adds

All start from random weights between the packaged towers, by stages of `configs/mini/image/alignment.yaml`, on three
seeds, one training at a time on one thread. Finished runs are kept, stopped ones go on, and equal runs of two studies
are trained once. Every recipe lies beside its runs. Writes `docs/benchmarks/alignment-STUDY.json`.
"""

import argparse
import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from alignment_parts import studies
from alignment_parts.arms import ROOT, SMALL, WHOLE, Arm, Sizes
from alignment_parts.captions import captions
from alignment_parts.curves import draw_curves
from alignment_parts.questions import blind_accuracy, questions

from evlvideo.files import write_json
from evlvideo.results.provenance import git_commit, versions

STUDIES: dict[str, Callable[[int, Path, Sizes], Iterator[Arm]]] = {
    "masks": studies.masks,
    "captions": captions,
    "length": studies.length,
    "questions": questions,
    "stages": studies.stages,
}


def main() -> None:
    """Run what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=tuple(STUDIES), help="what is compared")
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2], help="seeds (%(default)s)")
    parser.add_argument("--directory", type=Path, default=Path("runs/alignment"), help="of the runs (%(default)s)")
    parser.add_argument("--out", type=Path, help="defaults to docs/benchmarks/alignment-STUDY.json")
    parser.add_argument("--small", action="store_true", help="a few steps and pictures, to try the program")
    parser.add_argument(
        "--language-model", type=Path, help="a folder, instead of the packaged model of a million weights"
    )
    parser.add_argument("--steps", type=int, help=f"of each arm ({WHOLE.steps})")
    parser.add_argument("--batch-size", type=int, help=f"of each step ({WHOLE.batch_size})")
    parser.add_argument("--conditions", default="", help="what else ran on the machine, for the page")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("evlvideo").setLevel(logging.INFO)
    torch.set_num_threads(1)
    out = (options.out or ROOT / "docs" / "benchmarks" / f"alignment-{options.study}.json").resolve()
    directory = options.directory.resolve()
    sizes = sizes_of(options)
    os.chdir(ROOT)  # the config names its architecture from here
    report = measure(options.study, options.seeds, directory, sizes)
    write_json(out, {**report, "conditions": options.conditions})
    if options.study == "captions":
        draw_curves(report["arms"], out.with_suffix(".svg"))
    sys.stdout.write(json.dumps(report["arms"], indent=1) + "\n")


def sizes_of(options: argparse.Namespace) -> Sizes:
    """Return the sizes that the options ask for."""
    sizes = SMALL if options.small else WHOLE
    asked = {name: value for name in ("steps", "batch_size") if (value := getattr(options, name)) is not None}
    if options.language_model is not None:
        asked["language_model"] = str(options.language_model.resolve())
    if options.steps is not None:
        asked["eval_steps"] = max(1, options.steps // 4)
    return replace(sizes, **asked)


def measure(study: str, seeds: list[int], directory: Path, sizes: Sizes) -> dict[str, Any]:
    """Train and test what is missing of a study."""
    arms = []
    for seed in seeds:
        for arm in STUDIES[study](seed, directory, sizes):
            arm.train()
            arms.append(arm.result(sizes))
    return {
        "study": study,
        "machine": {"cpus": os.cpu_count(), "threads": torch.get_num_threads(), "platform": platform.platform()},
        "versions": versions(),
        "commit": git_commit(),
        "seeds": seeds,
        # A folder's name, since others have theirs elsewhere.
        "sizes": {**asdict(sizes), "language_model": sizes.language_model and Path(sizes.language_model).name},
        **({"blind": round(blind_accuracy(sizes.test_split), 4)} if study == "questions" else {}),
        "arms": arms,
    }


if __name__ == "__main__":
    main()

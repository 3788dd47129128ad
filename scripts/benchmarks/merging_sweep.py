"""Measure what merging gains and costs: train the TomeFormer on the mini dataset from scratch with each r.

    python scripts/benchmarks/merging_sweep.py --directory runs/merging-sweep

Runs `evlvideo sweep configs/mini/connectors/tomeformer.yaml r=0,4,8,12,16 model.fusion=mean_tokens`. Frames are
averaged, since four unmerged frames have more tokens than the mini language model has positions. Writes
`docs/benchmarks/merging_sweep.json` and the figure beside it, as SVG.
"""

import argparse
import logging
import os
import platform
from pathlib import Path

import torch

from evlvideo.experiments.sweep.figure import draw_figure
from evlvideo.experiments.sweep.plan import plan_sweep
from evlvideo.experiments.sweep.run import run_sweep
from evlvideo.files import write_json
from evlvideo.results.provenance import git_commit, versions

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Run what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", default="0,4,8,12,16", help="values of r (%(default)s)")
    parser.add_argument(
        "--directory", type=Path, default=Path("runs/merging-sweep"), help="directory of the runs (%(default)s)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "merging_sweep.json")
    parser.add_argument("--conditions", default="", help="what else ran on the machine, for the page")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("evlvideo").setLevel(logging.INFO)
    settings = [f"r={options.values}", "model.fusion=mean_tokens"]
    config = ROOT / "configs" / "mini" / "connectors" / "tomeformer.yaml"
    outcome = run_sweep(plan_sweep(config, settings, options.directory))
    training = outcome.sweep.variants[0].config.training
    report = {
        "machine": {"cpus": os.cpu_count(), "threads": torch.get_num_threads(), "platform": platform.platform()},
        "conditions": options.conditions,
        "versions": versions(),
        "commit": git_commit(),
        "seed": outcome.sweep.variants[0].config.seed,
        "steps": training.max_steps,
        **outcome.record(),
    }
    write_json(options.out, report)
    draw_figure(outcome, [options.out.with_suffix(".svg")])


if __name__ == "__main__":
    main()

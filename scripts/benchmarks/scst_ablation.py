"""Compare baselines of self-critical training on the mini dataset, with and without EOS in the reward.

    python scripts/benchmarks/scst_ablation.py --seeds 42 1 2 --out runs/scst-ablation

Fine-tunes one model per seed by cross-entropy, from which four runs start. Records validation CIDEr and the share of
validation captions with bad endings every few steps. Finished runs are not run again. Writes
`docs/benchmarks/scst_ablation.json`.
"""

import argparse
import json
import logging
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from evlvideo.config.loading import load_config
from evlvideo.files import write_json
from evlvideo.results.provenance import git_commit, versions
from evlvideo.results.run_directory import LOG_NAME, SUMMARY_NAME
from evlvideo.training.run import train

ROOT = Path(__file__).parents[2]
START = "merged_positions"
SETTINGS = {
    "greedy": {"baseline": "greedy", "reward_end_of_text": "true"},
    "loo": {"baseline": "loo", "reward_end_of_text": "true"},
    "greedy, no end of text": {"baseline": "greedy", "reward_end_of_text": "false"},
    "loo, no end of text": {"baseline": "loo", "reward_end_of_text": "false"},
}
NOTED = ("validation_cider", "validation_bad_endings")


def main() -> None:
    """Run what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2], help="seeds (%(default)s)")
    parser.add_argument("--steps", type=int, default=80, help="steps of each run (%(default)s)")
    parser.add_argument(
        "--directory", type=Path, default=Path("runs/scst-ablation"), help="directory of the runs (%(default)s)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "scst_ablation.json")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("evlvideo").setLevel(logging.INFO)
    report = {
        "machine": {"threads": torch.get_num_threads(), "platform": platform.platform()},
        "versions": versions(),
        "commit": git_commit(),
        "steps": options.steps,
        "start": START,
        "seeds": options.seeds,
        "curves": {name: [] for name in SETTINGS},
    }
    for seed in options.seeds:
        for name, curve in study(seed, options.steps, options.directory / f"seed-{seed}").items():
            report["curves"][name].append(curve)  # type: ignore[index]
    write_json(options.out, report)
    sys.stdout.write(json.dumps({name: [curve[-1] for curve in curves] for name, curves in report["curves"].items()}))  # type: ignore[attr-defined]


def study(seed: int, steps: int, directory: Path) -> dict[str, list[dict[str, Any]]]:
    """Run setting → values recorded at each step, including the start."""
    start = directory / "start"
    _run("merged_positions", start, [f"seed={seed}"])
    best = json.loads((start / SUMMARY_NAME).read_text(encoding="utf-8"))["best_step"]
    first = {**_noted(start)[best], "step": 0}
    curves = {}
    for name, scst in SETTINGS.items():
        run = directory / name.replace(", ", "-").replace(" ", "_")
        changes = [f"scst.{key}={value}" for key, value in scst.items()]
        lengths = [f"training.max_steps={steps}", f"training.eval_steps={max(1, steps // 4)}"]
        _run("scst", run, [f"seed={seed}", f"init={start}", *lengths, *changes])
        curves[name] = [first, *({**noted, "step": step} for step, noted in sorted(_noted(run).items()))]
    return curves


def _run(config: str, directory: Path, changes: list[str]) -> None:
    if not (directory / SUMMARY_NAME).is_file():
        train(load_config(ROOT / "configs" / "mini" / f"{config}.yaml", [f"output_dir={directory}", *changes]))


def _noted(run: Path) -> dict[int, dict[str, Any]]:
    """Read step → validation values."""
    entries = [json.loads(line) for line in (run / LOG_NAME).read_text(encoding="utf-8").splitlines()]
    return {entry["step"]: {name: round(entry[name], 4) for name in NOTED} for entry in entries if NOTED[0] in entry}


if __name__ == "__main__":
    main()

"""Train every connector on the mini dataset from scratch in one stage: same towers, data and steps, three seeds.

    python scripts/benchmarks/connectors.py --directory runs/connectors

Has two parts; each continues where it was stopped. **rates** trains each connector with a few learning rates on the
first seed, for validation CIDEr only; the configs hold the best rate of each. **study** runs `evlvideo study` over
`configs/mini/connectors`. Writes `docs/benchmarks/connectors.json`.

    python scripts/benchmarks/connectors.py --earlier connectors.json

Repeats the study of an earlier report on another machine, whose arithmetic differs in the last digits. It uses the
earlier learning rates, and shows the earlier scores beside its own.
"""

import argparse
import json
import logging
import os
import platform
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from evlvideo.assembly.clips import read_clips, references_of
from evlvideo.config.loading import load_config
from evlvideo.experiments.study.plan import Study, plan_study
from evlvideo.experiments.study.run import REPORT, run_study
from evlvideo.experiments.sweep.plan import plan_sweep
from evlvideo.experiments.sweep.run import run_sweep
from evlvideo.files import read_json, write_json
from evlvideo.metrics.scoring import score_captions
from evlvideo.results.prediction_files import read_predictions
from evlvideo.results.provenance import git_commit, versions
from evlvideo.results.run_directory import LOG_NAME, PREDICTIONS_NAME, evaluation_directory, run_config

ROOT = Path(__file__).parents[2]
NAMES = (
    "tomeformer",
    "blip2",
    "video_llama",
    "videochat",
    "video_coca",
    "mlp",
    "pixel_shuffle",
    "average_pool",
    "linear",
)
"""Rows in order; the others are tested against the first."""
RATES = ("2.5e-4", "5e-4", "1e-3", "2e-3", "4e-3", "8e-3", "1.6e-2", "3.2e-2", "6.4e-2")
FIRST = (1, 3)
"""Learning rates that are always tried. If the lowest or highest is best, the next beyond it is tried too."""
DATASET, SPLIT = "mini", "test"


def main() -> None:
    """Run what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2], help="seeds (%(default)s)")
    parser.add_argument(
        "--directory", type=Path, default=Path("runs/connectors"), help="directory of the runs (%(default)s)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "connectors.json")
    parser.add_argument("--conditions", default="", help="what else ran on the machine, for the page")
    parser.add_argument("--earlier", type=Path, help="report from another machine whose study to repeat")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("evlvideo").setLevel(logging.INFO)
    earlier = read_json(options.earlier) if options.earlier else None
    report = {
        "machine": {"cpus": os.cpu_count(), "threads": torch.get_num_threads(), "platform": platform.platform()},
        "conditions": options.conditions,
        "versions": versions(),
        "commit": git_commit(),
        "seeds": options.seeds,
        "rates": earlier["rates"] if earlier else all_rates(options.seeds[0], options.directory / "rates"),
        "constant": constant_caption(),
        "study": study(options.seeds, options.directory / "study"),
        "earlier": earlier and outline(earlier),
    }
    write_json(options.out, report)
    sys.stdout.write(json.dumps(report["study"], indent=1) + "\n")


def config_of(name: str) -> Path:
    """Return the config of a connector."""
    return ROOT / "configs" / "mini" / "connectors" / f"{name}.yaml"


def all_rates(seed: int, directory: Path) -> dict[str, dict[str, float]]:
    """Measure connector → learning rate → CIDEr on the whole validation split."""
    return {name: rates(name, seed, directory / name) for name in NAMES}


def rates(name: str, seed: int, directory: Path) -> dict[str, float]:
    """Measure learning rate → CIDEr on the whole validation split."""
    low, high = FIRST
    while True:
        tried = RATES[low:high]
        plan = plan_sweep(config_of(name), [f"training.learning_rate={','.join(tried)}", f"seed={seed}"], directory)
        found = {point.label: round(point.scores["cider"], 4) for point in run_sweep(plan, split="validate").points}
        best = max(found, key=lambda rate: found[rate])
        if best == tried[0] and low > 0:
            low -= 1
        elif best == tried[-1] and high < len(RATES):
            high += 1
        else:
            return found


def study(seeds: Sequence[int], directory: Path) -> dict[str, Any]:
    """Make the rows of the study, with each seed's validation scores by step and the number of distinct captions."""
    planned = plan_study([config_of(name) for name in NAMES], seeds, directory)
    run_study(planned, split=SPLIT)
    table = read_json(directory / REPORT / "table.json")
    training = planned.runs[0].config.training
    return {
        "steps": training.max_steps,
        "batch_size": training.batch_size,
        "learning_rates": {run.name: run.config.training.learning_rate for run in planned.runs},
        "rows": table["rows"],
        "remarks": table["remarks"],
        "validation": {name: [validation(directory) for directory in _runs(planned, name)] for name in NAMES},
        "distinct_captions": {name: [distinct(directory) for directory in _runs(planned, name)] for name in NAMES},
    }


def outline(report: dict[str, Any]) -> dict[str, Any]:
    """Select the part of a report that another is compared with."""
    return {
        **{key: report[key] for key in ("machine", "conditions", "versions", "commit")},
        "rows": {
            row["system"]: {
                "cider": row["values"]["cider"],
                "training_seconds": row["values"]["training_seconds"],
                "cider_by_seed": {seed: scores["cider"] for seed, scores in row["by_seed"].items()},
            }
            for row in report["study"]["rows"]
        },
    }


def _runs(planned: Study, name: str) -> list[Path]:
    return [run.directory for run in planned.runs if run.name == name]


def validation(run: Path) -> dict[int, float]:
    """Read step → validation CIDEr from the training log."""
    entries = [json.loads(line) for line in (run / LOG_NAME).read_text(encoding="utf-8").splitlines()]
    return {entry["step"]: round(entry["validation_cider"], 4) for entry in entries if "validation_cider" in entry}


def distinct(run: Path) -> int:
    """Count the distinct captions of the split: a model that ignores its clips has one."""
    return len(
        set(read_predictions(evaluation_directory(run, run_config(run).data, SPLIT) / PREDICTIONS_NAME).values())
    )


def constant_caption() -> dict[str, Any]:
    """Score the most frequent training caption on every clip: the best that ignoring clips can reach."""
    data = load_config(config_of(NAMES[0])).data
    counted = Counter(text for clip in read_clips(data, "train") for text in clip.captions)
    caption = min(counted, key=lambda text: (-counted[text], text))
    clips = read_clips(data, SPLIT)
    scores = score_captions({clip.clip_id: caption for clip in clips}, references_of(clips))
    return {"caption": caption, "clips": len(clips), "cider": round(scores.corpus["cider"], 4)}


if __name__ == "__main__":
    main()

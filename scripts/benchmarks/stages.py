"""Train a Q-Former in two stages and in one, and a TomeFormer in one, on the mini images with equal budgets.

    python scripts/benchmarks/stages.py --directory runs/stages

The systems are BLIP-2's Q-Former after a first stage (contrast, matching, generation), the same Q-Former without one,
and the TomeFormer. All start from random weights between the same frozen towers; the vision tower's outputs are read
from disk. The Q-Former in one stage sets the budget, and the others get as much, once in examples (pairs of a picture
and a caption) and once in multiply-adds of training, as `evlvideo estimate` counts them, without the vision tower. Half
of the budget of two stages goes to the first. Finished runs are kept, and stopped ones go on. Writes
`docs/benchmarks/stages.json`.
"""

import argparse
import json
import logging
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.estimate.records import ByPart
from evlvideo.estimate.run_costs import estimate_run
from evlvideo.evaluation.answer_questions import QuestionSet, answer_questions
from evlvideo.evaluation.other_clips import evaluate_other_clips
from evlvideo.experiments.parallel import parallel_trainings
from evlvideo.experiments.resumable import check_settings
from evlvideo.files import read_json, write_json
from evlvideo.inference.extract_features import extract_features
from evlvideo.mini.images.build import build_mini_images
from evlvideo.results.prediction_files import read_predictions
from evlvideo.results.provenance import git_commit, versions
from evlvideo.results.run_directory import LOG_NAME, PREDICTIONS_NAME, SUMMARY_NAME, evaluation_directory

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "mini" / "image"
FIRST_STAGE, SECOND_STAGE, QFORMER, TOMEFORMER = "stage_one", "stage_two", "qformer", "tomeformer"
"""Configs."""
TWO_STAGES, ONE_STAGE, TOME = "Q-Former, two stages", "Q-Former, one stage", "TomeFormer, one stage"
EXAMPLES, MULTIPLY_ADDS = "examples", "multiply_adds"
DATASET = "mini_images"
METRICS = ("cider", "bleu_4", "rouge_l")
VALIDATIONS = 3
"""Of each run, evenly spaced."""


@dataclass(frozen=True)
class Sizes:
    """How much is trained and looked at."""

    steps: int
    """Of the Q-Former in one stage."""
    batch_size: int
    split: str
    """Split that is captioned."""
    questions: str
    """Split of the questions."""
    pictures: dict[str, int]
    """Most pictures of the training and of the validation split, in training."""
    decoding: dict[str, int]
    """Changes to how captions are made."""


WHOLE = Sizes(steps=320, batch_size=16, split="test", questions="validate", pictures={}, decoding={})
SMALL = Sizes(
    steps=4,
    batch_size=4,
    split="validate",
    questions="validate",
    pictures={"train_clips": 8, "validation_clips": 4},
    decoding={"num_beams": 1, "max_new_tokens": 4, "min_new_tokens": 0},
)


@dataclass(frozen=True)
class Arm:
    """A system on a budget and a seed: its runs, of which the last captions."""

    system: str
    budget: str
    seed: int
    runs: tuple[RunConfig, ...]

    @property
    def directory(self) -> Path:
        """Directory of the run that captions."""
        return Path(self.runs[-1].output_dir)


def main() -> None:
    """Run what is missing, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 1, 2], help="seeds (%(default)s)")
    parser.add_argument("--directory", type=Path, default=Path("runs/stages"), help="of the runs (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "stages.json")
    parser.add_argument("--at-a-time", type=int, default=2, help="trainings at a time (%(default)s)")
    parser.add_argument("--small", action="store_true", help="a few steps and pictures, to try the program")
    parser.add_argument("--conditions", default="", help="what else ran on the machine, for the page")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("evlvideo").setLevel(logging.INFO)
    directory, out = options.directory.resolve(), options.out.resolve()
    os.chdir(ROOT)  # configs name architectures from here
    sizes = SMALL if options.small else WHOLE
    arms = [arm for seed in options.seeds for arm in arms_of(seed, directory, sizes)]
    train_all(arms, directory / "features", sizes.split, options.at_a_time)
    # A run may be of both budgets.
    found = {arm.directory: result_of(arm, sizes) for arm in {arm.directory: arm for arm in arms}.values()}
    report = {
        "machine": {"cpus": os.cpu_count(), "threads": torch.get_num_threads(), "platform": platform.platform()},
        "conditions": options.conditions,
        "versions": versions(),
        "commit": git_commit(),
        "seeds": options.seeds,
        "sizes": asdict(sizes),
        "arms": [
            {"system": arm.system, "budget": arm.budget, "seed": arm.seed, **found[arm.directory]} for arm in arms
        ],
    }
    write_json(out, report)
    sys.stdout.write(json.dumps(report["arms"], indent=1) + "\n")


def arms_of(seed: int, directory: Path, sizes: Sizes) -> Iterator[Arm]:
    """Plan the runs of a seed, on both budgets."""
    one = _run(QFORMER, seed, directory, EXAMPLES, sizes.steps, sizes)
    yield Arm(ONE_STAGE, EXAMPLES, seed, (one,))
    yield Arm(ONE_STAGE, MULTIPLY_ADDS, seed, (one,))
    spent = sizes.steps * trained_multiply_adds(one)
    for budget in (EXAMPLES, MULTIPLY_ADDS):
        yield Arm(TWO_STAGES, budget, seed, tuple(_two_stages(seed, directory, budget, spent, sizes)))
        tome = _run(TOMEFORMER, seed, directory, budget, sizes.steps, sizes)
        if budget == MULTIPLY_ADDS:
            tome = _run(TOMEFORMER, seed, directory, budget, round(spent / trained_multiply_adds(tome)), sizes)
        yield Arm(TOME, budget, seed, (tome,))


def _two_stages(seed: int, directory: Path, budget: str, spent: float, sizes: Sizes) -> Iterator[RunConfig]:
    before: dict[str, Any] = {}
    for name in (FIRST_STAGE, SECOND_STAGE):
        run = _run(name, seed, directory, budget, sizes.steps // 2, sizes, **before)
        if budget == MULTIPLY_ADDS:
            steps = max(1, round(spent / 2 / trained_multiply_adds(run)))
            run = _run(name, seed, directory, budget, steps, sizes, **before)
        yield run
        before = {"init": run.output_dir}


def _run(name: str, seed: int, directory: Path, budget: str, steps: int, sizes: Sizes, **changes: Any) -> RunConfig:
    """Take a config's model and learning rate; data, batches and the schedule are the same for all."""
    config = load_config(CONFIGS / f"{name}.yaml")
    data = replace(
        load_config(CONFIGS / f"{QFORMER}.yaml").data,
        features=str(directory / "features"),
        augment=False,
        num_workers=0,
        **sizes.pictures,
    )
    every = max(1, steps // VALIDATIONS)
    training = replace(
        load_config(CONFIGS / f"{QFORMER}.yaml").training,
        learning_rate=config.training.learning_rate,
        max_steps=steps,
        batch_size=sizes.batch_size,
        warmup_steps=min(20, steps),
        eval_steps=every,
        log_steps=every,
        keep_checkpoints=1,
    )
    generation = replace(config.generation, **sizes.decoding)
    place = str(directory / f"{name}-{budget}-{seed}")
    changes |= {"data": data, "training": training, "generation": generation}
    return replace(config, seed=seed, output_dir=place, **changes)


def trained_multiply_adds(run: RunConfig) -> int:
    """Count the multiply-adds of a step, without the vision tower, whose outputs are read."""
    counted: ByPart = estimate_run(replace(run, init="towers")).training_batch
    return counted.total - counted.vision_tower


def train_all(arms: Sequence[Arm], features: Path, split: str, at_a_time: int) -> None:
    """Train what is missing: everything that starts from random weights, and then what starts from it."""
    runs = {run.output_dir: run for arm in arms for run in arm.runs}
    check_settings(runs.values())
    if not features.is_dir():
        extract_features(next(iter(runs.values())), list(dict.fromkeys(("train", "validate", split))))
    starts = {arm.runs[0].output_dir for arm in arms}
    for wave in (starts, runs.keys() - starts):
        missing = [run for name, run in runs.items() if name in wave and not (Path(name) / SUMMARY_NAME).is_file()]
        with parallel_trainings(at_a_time) as start:
            for future in [start(run) for run in missing]:
                future.result()


def result_of(arm: Arm, sizes: Sizes) -> dict[str, Any]:
    """Evaluate an arm: its captions on their own and on other pictures, its answers, and its losses."""
    last = arm.runs[-1]
    plain, moved = evaluate_other_clips(arm.directory, split=sizes.split, config=last, metrics=METRICS)
    captions = read_predictions(evaluation_directory(arm.directory, last.data, sizes.split) / PREDICTIONS_NAME)
    asked = QuestionSet(DATASET, build_mini_images(progress=False), sizes.questions)
    _, answers = answer_questions(str(arm.directory), asked, overrides=["answering.num_beams=1"])
    assert answers is not None
    return {
        "steps": [run.training.max_steps for run in arm.runs],
        "multiply_adds": sum(run.training.max_steps * trained_multiply_adds(run) for run in arm.runs),
        "training_seconds": sum(_summary(run)["training_seconds"] for run in arm.runs),
        "scores": {name: round(plain.scores[name], 4) for name in METRICS if name in plain.scores},
        "other_pictures_cider": round(moved.scores["cider"], 4),
        "captions": len(captions),
        "distinct_captions": len(set(captions.values())),
        "validation_loss": _last(last, "validation_loss"),
        "prompt_spread": _last(last, "validation_prompt_between"),
        "answers": {name: asdict(score) for name, score in answers.scores.items()},
        "first_stage": _first_stage(arm.runs[0]) if len(arm.runs) > 1 else None,
    }


def _first_stage(run: RunConfig) -> dict[str, float]:
    names = ("contrast_loss", "matching_loss", "generation_loss", "image_to_text_r1", "text_to_image_r1")
    return {name: _last(run, f"validation_{name}") for name in names}


def _summary(run: RunConfig) -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_json(Path(run.output_dir) / SUMMARY_NAME)
    return found


def _last(run: RunConfig, key: str) -> float:
    """Read the value of the last line of a log that has it."""
    lines = (Path(run.output_dir) / LOG_NAME).read_text(encoding="utf-8").splitlines()
    return next(round(entry[key], 4) for entry in map(json.loads, reversed(lines)) if key in entry)


if __name__ == "__main__":
    main()

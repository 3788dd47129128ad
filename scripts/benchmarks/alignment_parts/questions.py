"""Adaptation to questions about the pictures, from each stage, with a frozen and with a trained language model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from alignment_parts.arms import CONFIG, Arm, Sizes, write_recipe
from alignment_parts.studies import four_stages
from evlvideo.config.run import TOWERS
from evlvideo.data.annotation.questions.splits import read_questions
from evlvideo.metrics.answers.blind import blind_answers
from evlvideo.metrics.answers.scores import score_answers
from evlvideo.mini.rendered import root_of

QUESTIONS_CONFIG = CONFIG.with_name("questions.yaml")
NO_STAGE = "no stage"
_DATASET = "mini_images"
LANGUAGE_MODEL_RATES = {"frozen": 0.0, "trained": 2e-4}
"""What the language model is during the adaptation → its learning rate."""


def questions(seed: int, directory: Path, sizes: Sizes) -> Iterator[Arm]:
    """Train the four stages of a seed, unless they are there, and plan adaptations from each, and from none."""
    four = Arm("four stages", seed, four_stages(seed, directory, sizes))
    four.train()
    starts = {NO_STAGE: TOWERS, **{stage.name: str(stage.directory) for stage in four.recipe.stages}}
    for stage, init in starts.items():
        for state, rate in LANGUAGE_MODEL_RATES.items():
            place = directory / f"questions-{stage.replace(' ', '-')}-{state}-{seed}"
            values = {**_values(sizes, rate), "init": init}
            if init == TOWERS:
                values["fit_clips"] = 0  # as the first of the four stages starts
            yield Arm(f"{stage} ({state})", seed, write_recipe(place, seed, values))


def blind_accuracy(split: str) -> float:
    """Score what a question's type alone tells, whatever the picture shows."""
    root = root_of(_DATASET, None)
    asked, trained = (read_questions(_DATASET, of, root) for of in (split, "train"))
    return score_answers(blind_answers(trained, asked), asked, metric="vqa").overall["vqa_accuracy"].value


def _values(sizes: Sizes, rate: float) -> dict[str, Any]:
    """Return a recipe of one stage, by the config of questions, for as many steps as the four stages have."""
    values: dict[str, Any] = yaml.safe_load(QUESTIONS_CONFIG.read_text(encoding="utf-8"))
    common = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    values["architecture"] = common["architecture"]
    values["data"] |= {**sizes.data, "num_workers": 0}
    values["training"] |= {
        "batch_size": sizes.batch_size,
        "eval_steps": sizes.eval_steps,
        "max_steps": sizes.steps,
        "warmup_steps": sizes.steps // 10,
        "learning_rates": {"language_model": rate},
    }
    return {**values, "stages": [{"name": "adapt"}]}

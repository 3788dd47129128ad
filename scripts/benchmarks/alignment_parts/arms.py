"""An arm of a study: a recipe on a seed, which is trained, tested and counted."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from evlvideo.assembly.clips import read_clips, references_of
from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.models import open_model
from evlvideo.config.data import QUESTIONS
from evlvideo.config.recipes.recipe import Recipe, Stage, load_recipe
from evlvideo.config.run import TOWERS
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.estimate.run_costs import clip_costs
from evlvideo.evaluation.answer_questions import QuestionSet, answer_questions
from evlvideo.experiments.resumable import check_settings, train_unfinished
from evlvideo.files import read_json, write_json, write_text
from evlvideo.inference.captioning import generate_captions
from evlvideo.inference.captions import texts_of
from evlvideo.metrics.scoring import score_captions
from evlvideo.mini.rendered import root_of
from evlvideo.results.run_directory import LOG_NAME, SUMMARY_NAME

ROOT = Path(__file__).parents[3]
CONFIG = ROOT / "configs" / "mini" / "image" / "alignment.yaml"
MEASURES = {"captions": "cider", QUESTIONS: "accuracy"}
"""Kind of data → what a validation logs, and a test gives."""
CAPTIONS_NAME = "test_captions.json"
FROZEN, UNFROZEN, ALL = "align", "unfreeze", "finetune"
"""Stages of the config: they train the connector, the language model too, and the vision tower too."""


@dataclass(frozen=True)
class Sizes:
    """How much is trained and looked at."""

    steps: int
    """Of each arm, unless a study says otherwise."""
    eval_steps: int
    batch_size: int
    data: Mapping[str, Any]
    """Further keys of `data`."""
    test_split: str
    language_model: str | None = None
    """A folder, instead of the packaged model."""


WHOLE = Sizes(steps=240, eval_steps=60, batch_size=16, data={"validation_clips": 50}, test_split="test")
SMALL = Sizes(steps=8, eval_steps=2, batch_size=2, data={"validation_clips": 2}, test_split="validate")


@dataclass(frozen=True)
class Arm:
    """One row of a study on one seed."""

    name: str
    """What the page calls it."""
    seed: int
    recipe: Recipe

    @property
    def last(self) -> Stage:
        """Return the stage whose model is tested."""
        return self.recipe.stages[-1]

    def train(self) -> None:
        """Train what is missing."""
        for stage in self.recipe.stages:
            check_settings([stage.config])
            train_unfinished(stage.config, f"{self.recipe.directory.name}, {stage.name}", "study", None)

    def result(self, sizes: Sizes) -> dict[str, Any]:
        """Test the last stage, and gather what the stages logged and cost."""
        measure = MEASURES[self.last.config.data.kind]
        test = _cider if measure == "cider" else _accuracy
        return {
            "arm": self.name,
            "seed": self.seed,
            "stages": [{"name": stage.name, "steps": stage.config.training.max_steps} for stage in self.recipe.stages],
            "multiply_adds": multiply_adds(self.recipe),
            "training_seconds": round(sum(_seconds(stage) for stage in self.recipe.stages), 1),
            measure: round(test(self.last, sizes.test_split), 4),
            "curve": list(curve(self.recipe.stages, measure)),
        }


def recipe_of(directory: Path, seed: int, stages: Sequence[Mapping[str, Any]], sizes: Sizes, **changes: Any) -> Recipe:
    """Write a recipe by the stages of the config beside its directory, and read it.

    Args:
        directory: of the recipe's runs.
        seed: of all stages.
        stages: with `name` and `steps`, the stage of the config that they are trained as (`like`), and further keys.
        sizes: how much is trained.
        changes: values that replace those of the config, and sections whose keys do.
    """
    values = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    known = {stage.pop("name"): stage for stage in values.pop("stages")}
    training = {"eval_steps": sizes.eval_steps, "batch_size": sizes.batch_size}
    for section, keys in {"data": dict(sizes.data), "training": training}.items():
        values[section] |= keys
    if sizes.language_model is not None:
        changes = {"architecture": _write_architecture(directory.parent, sizes.language_model), **changes}
    for key, value in changes.items():
        values[key] = {**values.get(key, {}), **value} if isinstance(value, Mapping) else value
    return write_recipe(directory, seed, {**values, "stages": [_stage(stage, known) for stage in stages]})


def _write_architecture(directory: Path, language_model: str) -> str:
    """Write the architecture of the mini towers with another language model, and return its path."""
    values = yaml.safe_load((CONFIG.parents[2] / "architectures" / "mini.yaml").read_text(encoding="utf-8"))
    del values["text_config"]
    path = directory / "architecture.yaml"
    write_text(path, yaml.safe_dump({**values, "language_model": language_model}, sort_keys=False))
    return str(path)


def write_recipe(directory: Path, seed: int, values: Mapping[str, Any]) -> Recipe:
    """Write a recipe beside its directory, and read it."""
    path = directory.with_suffix(".yaml")
    write_text(path, yaml.safe_dump({**values, "seed": seed, "output_dir": str(directory)}, sort_keys=False))
    return load_recipe(path)


def _stage(asked: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    own = {key: value for key, value in asked.items() if key not in ("name", "steps", "like", "training")}
    training = {**known[asked["like"]]["training"], **asked.get("training", {}), "max_steps": asked["steps"]}
    return {"name": asked["name"], **own, "training": training}


def curve(stages: Sequence[Stage], measure: str) -> Iterator[dict[str, float]]:
    """Yield the validations of stages, each with its loss and a measure, in steps from the first one's start."""
    before = 0
    for stage in stages:
        for line in (stage.directory / LOG_NAME).read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if f"validation_{measure}" in entry:
                found = {name: round(entry[f"validation_{name}"], 4) for name in ("loss", measure)}
                yield {"step": before + entry["step"], **found}
        before += stage.config.training.max_steps


def _cider(stage: Stage, split: str) -> float:
    """Score a stage's captions of a split."""
    clips = read_clips(stage.config.data, split)
    captions = captions_of(stage, clips, CAPTIONS_NAME)
    return score_captions(captions, references_of(clips), ("cider",), "python").corpus["cider"]


def _accuracy(stage: Stage, split: str) -> float:
    """Score a stage's answers to the questions of a split, by VQA's accuracy."""
    data = stage.config.data
    asked = QuestionSet(data.dataset, root_of(data.dataset, None), split)
    _, result = answer_questions(str(stage.directory), asked)
    assert result is not None
    return result.scores["vqa_accuracy"].value


def captions_of(stage: Stage, clips: Sequence[CaptionedClip], name: str) -> dict[str, str]:
    """Caption clips with a stage's model, unless a file of its directory has the captions."""
    path = stage.directory / name
    if not path.is_file():
        model, processor = open_model(stage.directory, stage.config)
        dataset = video_dataset(stage.config.data, processor, clips)
        write_json(path, texts_of(generate_captions(model, processor, dataset, stage.config.generation)))
    found: dict[str, str] = read_json(path)
    return found


def two_stages(steps: int, share: float) -> list[dict[str, Any]]:
    """Plan the alignment for a share of the steps, and training with the language model in the others."""
    aligned = round(share * steps)
    by_name = {FROZEN: aligned, UNFROZEN: steps - aligned}
    return [{"name": name, "like": name, "steps": count} for name, count in by_name.items() if count]


def _seconds(stage: Stage) -> float:
    found: float = read_json(stage.directory / SUMMARY_NAME)["training_seconds"]
    return found


def multiply_adds(recipe: Recipe) -> int:
    """Count the multiply-adds of all steps, with texts of the maximum length."""
    architecture, found = recipe.stages[0].config.architecture, 0
    for stage in recipe.stages:
        # As if it were the first one, since the checkpoint before need not be there yet.
        costs = clip_costs(replace(stage.config, init=TOWERS, architecture=architecture))
        found += costs.training * stage.config.training.batch_size * stage.config.training.max_steps
    return found

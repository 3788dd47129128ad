"""Keeps what a recipe's stages are trained with, and refuses a recipe that has changed under them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evlvideo.config.recipes.recipe import Recipe, Stage
from evlvideo.config.settings import flat_settings
from evlvideo.errors import UserError, first_ten
from evlvideo.files import read_json, write_json
from evlvideo.results.run_directory import CONFIG_NAME
from evlvideo.training.resuming.settings import ARGUMENTS_THAT_MAY_CHANGE

RECORD_NAME = "recipe.json"
"""Every stage's settings, in the recipe's directory."""
_MAY_CHANGE = frozenset(
    {
        *("data.root", "data.video_root", "data.features", "data.quarantine", "data.num_workers", "data.check_counts"),
        *("generation.batch_size", "training.keep_checkpoints", "training.log_steps", "training.max_hours"),
        *("training.stop_on_collapse", "scst.stop_on_collapse"),
        *(f"training.arguments.{name}" for name in ARGUMENTS_THAT_MAY_CHANGE),
    }
)
"""Places, and what leaves all that is trained as it is."""


def read_record(directory: Path) -> dict[str, dict[str, Any]] | None:
    """Read the settings of a recipe's stages by name, in their order.

    Returns:
        None if no recipe was trained in the directory.

    Raises:
        UserError: the record is broken.
    """
    path = directory / RECORD_NAME
    if not path.is_file():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(settings, dict) for settings in content.values()):
        raise UserError(f"{path} is not the record of a recipe: it must hold the settings of stages by name.")
    return content


def write_record(recipe: Recipe) -> None:
    """Write the settings of a recipe's stages."""
    write_json(recipe.directory / RECORD_NAME, _settings(recipe))


def first_to_train(recipe: Recipe, *, resume: bool, start: str | None) -> int:
    """Return the index of the first stage that may be replaced: that of `start`, or beyond the last.

    Args:
        recipe: as it is now.
        resume: go on with what is there.
        start: name of the stage to start again from.

    Raises:
        UserError: there is nothing to go on with, or something that would be overwritten; or the recipe has changed,
            which is told by stage and setting.
    """
    record, directory = read_record(recipe.directory), recipe.directory
    if record is None:
        if resume or start is not None:
            asked = "--resume" if start is None else "--from"
            raise UserError(f"{directory} holds no stages of a recipe to go on from; train without {asked}.")
        for path in (directory / CONFIG_NAME, *(stage.directory for stage in recipe.stages)):
            if path.exists():
                raise UserError(
                    f"{path} is there already and is of no recipe that was trained in {directory}; name another "
                    "output_dir, or remove it."
                )
        return len(recipe.stages)
    if not resume and start is None:
        raise UserError(
            f"{directory} already holds the stages of a recipe ({', '.join(record)}). Add --resume to go on, --from "
            "STAGE to start again from one, or name another output_dir."
        )
    first = len(recipe.stages) if start is None else recipe.index(start)
    if changes := list(_changes(record, recipe, first)):
        before = "" if start is None else f" before {start}"
        raise UserError(
            f"The recipe in {directory} has changed{before} since its stages were trained: {first_ten(changes)}. Leave "
            "it as it was, give --from with the first stage that has changed, to start again from there, or name "
            "another output_dir."
        )
    return first


def _changes(record: Mapping[str, Mapping[str, Any]], recipe: Recipe, first: int) -> Iterator[str]:
    names, known = [stage.name for stage in recipe.stages][:first], list(record)[:first]
    whole = first == len(recipe.stages)
    if names != (list(record) if whole else known):
        yield f"its stages are {', '.join(names)} (they were {', '.join(record if whole else known)})"
        return
    for name, settings in list(_settings(recipe).items())[:first]:
        before = record[name]
        for key in dict.fromkeys((*settings, *before)):
            if key not in _MAY_CHANGE and settings.get(key) != before.get(key):
                yield f"{name} has {key}={_shown(settings.get(key))} (it was {_shown(before.get(key))})"


def _settings(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Return all settings of each stage as JSON stores them."""
    found = {stage.name: _settings_of(stage) for stage in recipe.stages}
    for stage in recipe.stages[1:]:
        del found[stage.name]["init"]  # the directory of the stage before
    settings: dict[str, dict[str, Any]] = json.loads(json.dumps(found))
    return settings


def _settings_of(stage: Stage) -> dict[str, Any]:
    values = flat_settings(asdict(stage.config))
    del values["output_dir"]
    if stage.epochs is not None:
        values.pop("training.max_steps")
        values["epochs"] = stage.epochs
    if stage.warmup_share is not None:
        values.pop("training.warmup_steps")
        values["warmup_share"] = stage.warmup_share
    return values


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)

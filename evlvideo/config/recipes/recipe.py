"""A recipe of stages: runs that begin where the one before ended, in one YAML.

`stages` is a list. Every stage has a `name` and any keys of a run; what it does not say, it takes from the top level.
Its `init` is the stage before, and its `output_dir` is `NN-NAME` in the recipe's.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evlvideo.config.loading import TEXTS, checked_run
from evlvideo.config.run import RunConfig
from evlvideo.errors import ProblemsError, UserError, raise_problems
from evlvideo.yaml_values import parse_overrides, read_values

STAGES = "stages"
"""The key that makes a config a recipe."""
_NAME, _EPOCHS, _WARMUP = "name", "epochs", "warmup_share"
_OF_STAGES = (_EPOCHS, _WARMUP)
"""Keys of a stage, or of the top level, that a run does not have."""
_OF_THE_START = ("architecture", "connector_init", "prompt_scale", "fit_clips")
"""Keys of the top level that are for a new model, with which the first stage alone begins."""
_OF_THE_RECIPE = ("output_dir", "init", "architecture", "connector_init")
_ALLOWED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_TEXTS_OF_RECIPES = frozenset({*TEXTS, f"{STAGES}[].{_NAME}", *(f"{STAGES}[].{key}" for key in TEXTS)})


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a recipe."""

    name: str
    config: RunConfig
    """The run, with its own `init` and `output_dir`. If the stage has epochs, its steps are not known yet."""
    own: Mapping[str, Any]
    """What the stage itself says, nested as in the YAML."""
    epochs: float | None = None
    """Walks through the sources, instead of `training.max_steps`."""
    warmup_share: float | None = None
    """Share of the steps that warm up, instead of `training.warmup_steps`."""

    @property
    def directory(self) -> Path:
        """Return the directory of the run."""
        return Path(self.config.output_dir)

    def of_steps(self, steps: int) -> RunConfig:
        """Return the run with a number of steps, and the warm-up that is a share of them.

        Raises:
            UserError: the run's settings do not fit that many.
        """
        training, share = self.config.training, self.warmup_share
        warmup = training.warmup_steps if share is None else round(share * steps)
        return replace(self.config, training=replace(training, max_steps=steps, warmup_steps=warmup))


@dataclass(frozen=True, slots=True)
class Recipe:
    """Stages in their order."""

    directory: Path
    """Holds the stages' directories."""
    stages: tuple[Stage, ...]

    def index(self, name: str) -> int:
        """Return the index of a stage.

        Raises:
            UserError: there is none of that name.
        """
        names = [stage.name for stage in self.stages]
        if name not in names:
            raise UserError(f"--from {name!r} is no stage of the recipe; allowed: {', '.join(names)}.")
        return names.index(name)


def is_recipe(path: Path, overrides: list[str] | None = None) -> bool:
    """Whether a config has stages.

    Args:
        path: the file.
        overrides: `key=value`; without them, a file may lack a value.

    Raises:
        UserError: it cannot be read.
    """
    return STAGES in read_values(path, "config", overrides)


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe from YAML.

    Args:
        path: the file.
        overrides: `key=value` for all stages that do not say the key themselves, such as `data.num_workers=8`, or
            `NAME.key=value` for one stage, such as `align.training.max_steps=10`.

    Raises:
        UserError: the file cannot be read or is not YAML, or stages are wrong; all problems are listed.
    """
    where = f"The recipe {path}"
    names = _names(read_values(path, "recipe", overrides).get(STAGES))
    common, by_stage = _split(overrides or [], names)
    values = read_values(path, "recipe", common, texts=_TEXTS_OF_RECIPES)
    stages = values.pop(STAGES, None)
    raise_problems(where, [*_problems_of_stages(stages, names), *_problems_of_names(names)])
    directory = Path(RunConfig.output_dir if values.get("output_dir") is None else str(values["output_dir"]))
    problems: list[str] = []
    read: list[Stage] = []
    for index, given in enumerate(stages):
        own = _merged({key: value for key, value in given.items() if key != _NAME}, by_stage.get(names[index], {}))
        try:
            read.append(_stage(index, names, values, own, directory))
        except ProblemsError as error:
            problems += [f"{STAGES}[{index}] ({names[index]}): {problem}" for problem in error.problems]
    raise_problems(where, problems)
    # `~` in the recipe's directory is resolved with the stages'.
    return Recipe(read[0].directory.parent, tuple(read))


def _names(stages: Any) -> list[str]:
    entries = stages if isinstance(stages, list) else []
    return [str(entry.get(_NAME) or "") if isinstance(entry, Mapping) else "" for entry in entries]


def _problems_of_stages(stages: Any, names: list[str]) -> Iterator[str]:
    if not isinstance(stages, list) or not stages:
        yield f"{STAGES} is {stages!r}; it must be a list of sections, each with a name and keys of a run"
        return
    for index, (given, name) in enumerate(zip(stages, names, strict=True)):
        where = f"{STAGES}[{index}]"
        if not isinstance(given, Mapping):
            yield f"{where} is {given!r}; it must be a section with a name and keys of a run"
        elif not name:
            yield f"{where} has no name; give it one, such as name: align"
        else:
            for key in sorted(set(_OF_THE_RECIPE) & given.keys()):
                yield f"{where} ({name}) sets {key}, which the recipe sets: {_REASONS[key]}"


_REASONS = {
    "output_dir": "each stage has a directory in that of the recipe",
    "init": "each stage begins where the one before ended, and the first one from the recipe's own init",
    "architecture": "all stages have one model; change it in the stage's model section",
    "connector_init": "the first stage alone begins with a new connector",
}


def _problems_of_names(names: list[str]) -> Iterator[str]:
    for name in names:
        if names.count(name) > 1 and name:
            yield f"{name} is the name of {names.count(name)} stages; give each its own"
        if name and not _ALLOWED_NAME.fullmatch(name):
            yield (
                f"{name!r} is no name for a stage, whose directory has it; use letters, digits, - and _, beginning "
                "with a letter or digit"
            )
        if name in _SECTIONS:
            yield f"{name} is the name of a stage and of a key of a run; name the stage otherwise"


_SECTIONS = frozenset(RunConfig.__dataclass_fields__) | {STAGES, *_OF_STAGES}


def _split(overrides: list[str], names: list[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Part overrides in those of all stages and those of one, by its name, which are parsed."""
    of_one: dict[str, list[str]] = {}
    common = []
    for override in overrides:
        first, dot, rest = override.partition(".")
        if dot and first.strip() in names:
            of_one.setdefault(first.strip(), []).append(rest)
        else:
            common.append(override)
    return common, {name: parse_overrides(given, texts=TEXTS) for name, given in of_one.items()}


def _stage(index: int, names: list[str], common: Mapping[str, Any], own: dict[str, Any], directory: Path) -> Stage:
    start = {} if index == 0 else dict.fromkeys(_OF_THE_START)
    values = _merged(_merged(common, start), own)
    values["output_dir"] = str(directory / _folder(index, names[index]))
    if index:
        values["init"] = str(directory / _folder(index - 1, names[index - 1]))
    lengths, problems = _lengths(values, own)
    try:
        config = checked_run(values, "The stage")
    except ProblemsError as error:
        problems += error.problems
    raise_problems("The stage", problems)
    stage = Stage(names[index], config, own, **lengths)
    # A warm-up that is a share of steps that are known.
    return stage if stage.epochs is not None else replace(stage, config=stage.of_steps(config.training.max_steps))


def _folder(index: int, name: str) -> str:
    return f"{index + 1:02d}-{name}"


def _lengths(values: dict[str, Any], own: Mapping[str, Any]) -> tuple[dict[str, float | None], list[str]]:
    """Take the keys that a run does not have out of a stage's values, and name what is wrong with them."""
    epochs, share = values.pop(_EPOCHS, None), values.pop(_WARMUP, None)
    training = own.get("training")
    says: Mapping[str, Any] = training if isinstance(training, Mapping) else {}
    problems = []
    if says.get("max_steps") is not None:
        if own.get(_EPOCHS) is not None:
            problems.append(f"{_EPOCHS} is {epochs} and training.max_steps is {says['max_steps']}; give one of them")
        epochs = None
    if says.get("warmup_steps") is not None and own.get(_WARMUP) is None:
        share = None
    if epochs is not None and not (_is_number(epochs) and epochs > 0):
        problems.append(f"{_EPOCHS} is {epochs!r}; it must be a number above 0")
        epochs = None
    if share is not None and not (_is_number(share) and 0 <= share < 1):
        problems.append(f"{_WARMUP} is {share!r}; it must be at least 0 and below 1")
        share = None
    return {_EPOCHS: epochs, _WARMUP: share}, problems


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay nested values over others; lists replace each other, and a section that is null changes nothing."""
    merged = dict(below)
    for key, value in above.items():
        before = merged.get(key)
        if isinstance(before, Mapping) and value is None:
            continue
        merged[key] = _merged(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged

"""Plans a sweep: checks every value and counts its costs before anything is trained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evlvideo.assembly.architecture import run_architecture
from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError, raise_problems
from evlvideo.estimate.run_costs import clip_costs
from evlvideo.experiments.resumable import check_captions, check_settings
from evlvideo.experiments.sweep.merged_tokens import Merging, merging_of
from evlvideo.models.checkpoint import checkpoint_directory, read_configuration
from evlvideo.yaml_values import parse_overrides

MERGE_R, MERGE_TO = "model.merge_r", "model.merge_to"
_SHORT = {"r": MERGE_R}
"""Short name → key."""
_NAMES = {key: short for short, key in _SHORT.items()}
_OF_TRAINING = ("training.", "scst.", "representation.", "stage", "connector_init", "prompt_scale")
_WITH_WEIGHTS = ("connector", "contextualizer", "contextualizer_blocks", "frame_positions", "lora_r", "lora_targets")
_NOT_SWEPT = ("output_dir", "init", "architecture")
_WHERE = "Nothing was trained; the sweep"


@dataclass(frozen=True, slots=True)
class Variant:
    """One value of a sweep."""

    value: Any
    """As parsed from YAML."""
    label: str
    """As given on the command line."""
    config: RunConfig
    """The run with this value, with its own directory."""
    merged_tokens: int
    """Tokens of a frame that the connector merges away, over all layers."""
    soft_tokens: int
    """Length of the soft prompt of a clip in tokens."""
    training_multiply_adds: int
    """Multiply-adds of one cross-entropy step on one clip, forward and backward."""
    captioning_multiply_adds: int
    """Multiply-adds of captioning one clip."""
    notes: tuple[str, ...]
    """Remarks on the value."""

    @property
    def directory(self) -> Path:
        """Directory of the run."""
        return Path(self.config.output_dir)


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep before it runs."""

    key: str
    """The swept config key."""
    name: str
    """What tables call it."""
    checkpoint: str | None
    """The checkpoint to evaluate. `None` if each value is trained."""
    out: Path
    """Directory of the runs, the table and the figure."""
    variants: tuple[Variant, ...]
    """The values in the order given."""


def plan_sweep(config: Path, settings: Sequence[str], out: Path, *, checkpoint: str | None = None) -> Sweep:
    """Read a sweep and check that every value can run.

    Args:
        config: YAML file of the run.
        settings: `key=value` each. Exactly one has several values, separated by commas, such as `r=0,4,8` (short for
            `model.merge_r`) or `data.num_frames=1,2,4`.
        out: directory of the sweep.
        checkpoint: checkpoint to evaluate with each value. If None, each value is trained.

    Raises:
        UserError: none or several keys are swept, a value is wrong, repeated or merges more than half of the tokens,
            or a directory of the sweep holds a run with other settings. All problems are listed.
    """
    key, texts, others = _swept(settings)
    name = _NAMES.get(key, key.rpartition(".")[2])
    if key in _NOT_SWEPT or (checkpoint is not None and key.startswith(_OF_TRAINING)):
        raise UserError(f"{key} cannot be swept{'' if checkpoint is None else ' without training'}; sweep another key.")
    raise_problems(_WHERE, _problems_of_texts(name, texts))
    settings_of = [([*others, f"{key}={text}"], out / f"{name}-{_slug(text)}") for text in texts]
    runs = _read_runs(config, settings_of, checkpoint)
    variants, problems = [], []
    for text, run in zip(texts, runs, strict=True):
        try:
            check_captions(run)
            if checkpoint is not None:
                _check_weights(checkpoint, run)
            variants.append(_variant(key, text, run))
        except UserError as error:
            problems.append(f"{name}={text}: {error}")
    raise_problems(_WHERE, problems)
    check_settings(variant.config for variant in variants)
    return Sweep(key, name, checkpoint, out, tuple(_with_twins(name, variants)))


def _read_runs(config: Path, settings: Sequence[tuple[list[str], Path]], checkpoint: str | None) -> list[RunConfig]:
    """Read the config with the settings of each run, and give each its directory."""
    runs, problems = [], []
    for of_run, directory in settings:
        try:
            run = load_config(config, of_run)
            runs.append(replace(run, output_dir=str(directory), init=checkpoint or run.init))
        except UserError as error:
            problems.append(str(error))
    raise_problems(_WHERE, problems)
    return runs


def _swept(settings: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """Return the swept key, its values, and the other settings."""
    swept: dict[str, list[str]] = {}
    others = []
    for setting in settings:
        given, equals, values = setting.partition("=")
        key = _SHORT.get(given.strip(), given.strip())
        texts = _split(values)
        if len(texts) > 1:
            swept[key] = texts
        else:
            others.append(f"{key}{equals}{values}")
    if len(swept) != 1:
        found = f"Several keys have several values ({', '.join(swept)})" if swept else "No key has several values"
        raise UserError(
            f"{found}; give several to exactly one key, separated by commas, such as r=0,4,8 or data.num_frames=1,2,4."
        )
    key, texts = swept.popitem()
    return key, texts, others


def _split(values: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth = [""], 0
    for character in values:
        depth += (character in "[{(") - (character in "]})")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _problems_of_texts(name: str, texts: Sequence[str]) -> Iterator[str]:
    if "" in texts:
        yield f"{name} has an empty value between two commas"
    for text in dict.fromkeys(texts):
        if texts.count(text) > 1:
            yield f"{name}={text} is given {texts.count(text)} times"
        if name == "r" and text and not text.isdecimal() and not text.startswith("["):
            yield f"r is {text}; it must be a whole number, at least 0, or a list in [ ] with one for each layer"


def _variant(key: str, text: str, config: RunConfig) -> Variant:
    merging = merging_of(run_architecture(config))
    if key == MERGE_R and merging.asked[0] > merging.most_in_first:
        raise UserError(
            f"the first layer has {merging.tokens} tokens and can merge at most {merging.most_in_first}, half of them "
            "without the class token"
        )
    costs = clip_costs(config)
    return Variant(
        value=_value(key, text),
        label=text,
        config=config,
        merged_tokens=sum(merging.done),
        soft_tokens=costs.soft_tokens,
        training_multiply_adds=costs.training,
        captioning_multiply_adds=costs.captioning,
        notes=tuple(_notes(key, merging)),
    )


def _check_weights(checkpoint: str, config: RunConfig) -> None:
    """Raise if the config needs parts that the checkpoint has no weights for."""
    saved = read_configuration(checkpoint_directory(checkpoint))
    for name in _WITH_WEIGHTS:
        wanted, known = getattr(config.model, name), getattr(saved, name)
        if wanted is not None and wanted != known:
            raise UserError(f"model.{name} is {wanted!r}, and {checkpoint} was trained with {known!r}; train it first")


def _notes(key: str, merging: Merging) -> Iterator[str]:
    if key == MERGE_TO:
        yield f"the layers merge {', '.join(map(str, merging.done))}"
    if key == MERGE_R:
        yield from _cap(merging)


def _cap(merging: Merging) -> Iterator[str]:
    capped = [
        layer for layer, (asked, done) in enumerate(zip(merging.asked, merging.done, strict=True)) if done < asked
    ]
    if capped:
        yield (
            f"capped from layer {capped[0] + 1} of {len(merging.asked)} on, where half of the tokens are fewer: "
            f"{', '.join(map(str, merging.done))} are merged"
        )


def _with_twins(name: str, variants: Sequence[Variant]) -> Iterator[Variant]:
    """Add a note to values that merge as many tokens as an earlier one."""
    first: dict[tuple[int, int], str] = {}
    for variant in variants:
        twin = first.setdefault((variant.merged_tokens, variant.soft_tokens), variant.label)
        notes = variant.notes
        if name == "r" and twin != variant.label:
            notes = (*notes, f"merges as many tokens as r={twin}")
        yield replace(variant, notes=notes)


def _value(key: str, text: str) -> Any:
    value: Any = parse_overrides([f"{key}={text}"])
    for part in key.split("."):
        value = value[part]
    return value


def _slug(text: str) -> str:
    return "".join(character if character.isalnum() or character in ".-" else "_" for character in text).strip("_")

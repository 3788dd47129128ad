"""What a sweep will do: every value is checked, and what it costs is counted, before anything is trained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evlvideo.assembly.architecture import run_architecture
from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError, raise_problems
from evlvideo.estimate.run_costs import clip_costs
from evlvideo.experiments.resumable import check_settings
from evlvideo.experiments.sweep.merged_tokens import Merging, merging_of
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.yaml_values import parse_overrides

MERGE_R = "model.merge_r"
_SHORT = {"r": MERGE_R}
"""Keys by their short names."""
_NAMES = {key: short for short, key in _SHORT.items()}
_OF_TRAINING = ("training.", "scst.", "stage", "connector_init")
_WITH_WEIGHTS = ("connector", "contextualizer", "contextualizer_blocks", "frame_positions", "lora_r", "lora_targets")
_NOT_SWEPT = ("output_dir", "init", "architecture")
_WHERE = "Nothing was trained; the sweep"


@dataclass(frozen=True, slots=True)
class Variant:
    """One value of a sweep."""

    value: Any
    """As YAML reads it."""
    label: str
    """As it was given."""
    config: RunConfig
    """The run with this value, in a directory of its own."""
    merged_tokens: int
    """Tokens of a frame that the connector merges away, over all layers."""
    soft_tokens: int
    """Soft tokens of a clip that are left for the language model."""
    training_multiply_adds: int
    """Of one cross-entropy pass, forward and backward, for each clip."""
    captioning_multiply_adds: int
    """Of captioning one clip."""
    notes: tuple[str, ...]
    """What is to be known of the value."""

    @property
    def directory(self) -> Path:
        """Of its run."""
        return Path(self.config.output_dir)


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep before it runs."""

    key: str
    """The key of the config."""
    name: str
    """How a table calls it."""
    checkpoint: str | None
    """The checkpoint that is only evaluated; `None` where each value is trained."""
    out: Path
    """Directory of the runs, the table and the figure."""
    variants: tuple[Variant, ...]
    """In the order given."""


def plan_sweep(config: Path, settings: Sequence[str], out: Path, *, checkpoint: str | None = None) -> Sweep:
    """Read a sweep, and make sure that every value can run.

    Args:
        config: the run, as YAML.
        settings: `key=value`; exactly one has several values, with commas between them, such as `r=0,4,8` (short for
            `model.merge_r`) or `data.num_frames=1,2,4`.
        out: directory of the sweep.
        checkpoint: evaluate this one with each value, without training.

    Raises:
        UserError: none or several keys are swept, or a value is wrong, is there twice, or merges more tokens than half;
            all problems are listed. Or a directory of the sweep holds a run with other settings.
    """
    key, texts, others = _swept(settings)
    name = _NAMES.get(key, key.rpartition(".")[2])
    if key in _NOT_SWEPT or (checkpoint is not None and key.startswith(_OF_TRAINING)):
        raise UserError(f"{key} cannot be swept{'' if checkpoint is None else ' without training'}; sweep another key.")
    raise_problems(_WHERE, _problems_of_texts(name, texts))
    configs: list[RunConfig] = []
    problems = []
    for text in texts:
        try:
            run = load_config(config, [*others, f"{key}={text}"])
            directory = out / f"{name}-{_slug(text)}"
            configs.append(replace(run, output_dir=str(directory), init=checkpoint or run.init))
        except UserError as error:
            problems.append(str(error))
    raise_problems(_WHERE, problems)
    variants, refused = [], []
    for text, run in zip(texts, configs, strict=True):
        try:
            if checkpoint is not None:
                _check_weights(checkpoint, run)
            variants.append(_variant(key, text, run))
        except UserError as error:
            refused.append(f"{name}={text}: {error}")
    raise_problems(_WHERE, refused)
    check_settings(variant.config for variant in variants)
    return Sweep(key, name, checkpoint, out, tuple(_with_twins(name, variants)))


def _swept(settings: Sequence[str]) -> tuple[str, list[str], list[str]]:
    """The swept key, its values, and the other settings."""
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
            f"{found}; give exactly one key several, with commas between, such as r=0,4,8 or data.num_frames=1,2,4."
        )
    key, texts = swept.popitem()
    return key, texts, others


def _split(values: str) -> list[str]:
    """Parts between commas that stand outside of brackets."""
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
        yield f"{name} has nothing between two commas"
    for text in dict.fromkeys(texts):
        if texts.count(text) > 1:
            yield f"{name}={text} is there {texts.count(text)} times"
        if name == "r" and text and not text.isdecimal() and not text.startswith("["):
            yield f"r is {text}; it must be a whole number, 0 or more, or a list with one a layer in [ ]"


def _variant(key: str, text: str, config: RunConfig) -> Variant:
    merging = merging_of(run_architecture(config))
    if key == MERGE_R and merging.asked[0] > merging.most_in_first:
        raise UserError(
            f"the first layer has {merging.tokens} tokens and can merge {merging.most_in_first} at most, half of those "
            "that are no class token"
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
        notes=tuple(_cap(merging)) if key == MERGE_R else (),
    )


def _check_weights(checkpoint: str, config: RunConfig) -> None:
    """Without training, a checkpoint cannot be given parts that it has no weights of."""
    saved = EvlVideoConfig.from_pretrained(checkpoint_directory(checkpoint))
    for name in _WITH_WEIGHTS:
        wanted, there = getattr(config.model, name), getattr(saved, name)
        if wanted is not None and wanted != there:
            raise UserError(f"model.{name} is {wanted!r}, and {checkpoint} was trained with {there!r}; train it first")


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
    """Say of values that merge as many tokens as an earlier one that they do."""
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

"""What the values of a run's config may be, beyond their types."""

import math
from collections.abc import Mapping
from typing import Any

from evlvideo.config.argument_names import problems_of_arguments
from evlvideo.config.reward_names import parse_reward
from evlvideo.config.scst_presets import PRESETS
from evlvideo.data.annotation.splits import DATASETS
from evlvideo.errors import UserError
from evlvideo.models.connectors import CONNECTORS

TOWERS = "towers"
"""The `init` of a new model."""
SHARDS = "shards"
"""The data set of a source that is tar files."""

CHOICES: dict[str, tuple[str, ...]] = {
    "stage": ("caption", "scst"),
    "model.connector": tuple(CONNECTORS),
    "model.fusion": ("mean", "mean_tokens", "concat"),
    "model.contextualizer": ("none", "in_tower", "merged"),
    "data.dataset": tuple(DATASETS),
    "data.train_sampling": ("uniform", "headtail", "segments", "segment_middles", "1fps", "2fps"),
    "data.eval_sampling": ("uniform", "headtail", "segments", "segment_middles", "1fps", "2fps"),
    "training.precision": ("auto", "bf16", "fp16", "fp32"),
    "scst.preset": tuple(PRESETS),
    "scst.candidates": ("sampling", "beams"),
    "scst.baseline": ("greedy", "loo", "mean"),
    "scst.reward_frequencies": ("train", "batch"),
    "scst.reward_references": ("all", "first"),
}
"""Allowed values of every key that takes a name."""

_AT_LEAST: dict[str, float] = {
    "seed": 0,
    "data.validation_clips": 1,
    "data.num_frames": 1,
    "data.captions_per_clip": 1,
    "data.num_workers": 0,
    "training.max_steps": 1,
    "training.batch_size": 1,
    "training.gradient_accumulation_steps": 1,
    "training.min_learning_rate": 0,
    "training.warmup_steps": 0,
    "training.warmup_learning_rate": 0,
    "training.weight_decay": 0,
    "training.max_grad_norm": 0,
    "training.eval_steps": 1,
    "training.keep_checkpoints": 1,
    "training.patience": 0,
    "training.log_steps": 1,
    "generation.num_beams": 1,
    "generation.max_new_tokens": 1,
    "generation.min_new_tokens": 0,
    "generation.batch_size": 1,
    "scst.num_samples": 1,
    "scst.kl_weight": 0,
    "scst.max_new_tokens": 1,
}
_ABOVE_ZERO = ("training.learning_rate", "training.max_hours", "scst.temperature", "generation.temperature")
_ARGUMENTS = "training.arguments"


def problems_of(values: Mapping[str, Any]) -> list[str]:
    """What is wrong with a run's values, given by dotted key; every type is right already."""
    problems = [
        f"{key} is {values[key]!r}; allowed: {', '.join(allowed)}"
        for key, allowed in CHOICES.items()
        if values[key] is not None and values[key] not in allowed
    ]
    problems += [
        f"{key} is {values[key]}; it must be at least {least:g}"
        for key, least in _AT_LEAST.items()
        if values[key] is not None and not least <= values[key] < math.inf
    ]
    minimum, maximum = values["generation.min_new_tokens"], values["generation.max_new_tokens"]
    if minimum > maximum:
        problems.append(f"generation.min_new_tokens is {minimum}, more than generation.max_new_tokens, {maximum}")
    if not 0 < values["data.crop_scale_min"] <= 1:
        problems.append(f"data.crop_scale_min is {values['data.crop_scale_min']}; it must be above 0 and at most 1")
    problems += _problems_of_features(values)
    problems += [
        f"{key} is {values[key]}; it must be above 0 and at most 1"
        for key in ("generation.top_p", "scst.top_p")
        if not 0 < values[key] <= 1
    ]
    if not 0 <= values["data.horizontal_flip"] <= 1:
        problems.append(f"data.horizontal_flip is {values['data.horizontal_flip']}; it must be between 0 and 1")
    problems += [
        f"{key} is {values[key]}; it must be above 0"
        for key in (*_ABOVE_ZERO, *(key for key in values if key.startswith("training.learning_rates.")))
        if values[key] is not None and not 0 < values[key] < math.inf
    ]
    if values["init"] == TOWERS and values["architecture"] is None:
        problems.append(f"init is {TOWERS}, a new model; name its architecture, a YAML file")
    if values["init"] != TOWERS and values["connector_init"] is not None:
        problems.append(f"connector_init starts a new connector, but init is {values['init']!r}; set init to {TOWERS}")
    if values["training.min_learning_rate"] > values["training.learning_rate"]:
        problems.append(
            f"training.min_learning_rate is {values['training.min_learning_rate']}, more than "
            f"training.learning_rate, {values['training.learning_rate']}"
        )
    if not math.isfinite(values["generation.length_penalty"]):
        problems.append(f"generation.length_penalty is {values['generation.length_penalty']}; it must be finite")
    problems += _problems_of_scst(values)
    problems += problems_of_arguments(_arguments(values), _ARGUMENTS)
    for place, source in enumerate(values["data.sources"]):
        if source["dataset"] == SHARDS and values["stage"] == "scst":
            problems.append(f"data.sources[{place}] are shards, and the scst stage needs all captions of every clip")
        if source["dataset"] not in (*DATASETS, SHARDS):
            allowed = ", ".join((*DATASETS, SHARDS))
            problems.append(f"data.sources[{place}].dataset is {source['dataset']!r}; allowed: {allowed}")
        if not 0 < source["ratio"] < math.inf:
            problems.append(f"data.sources[{place}].ratio is {source['ratio']}; it must be above 0")
    options = values.get("model.connector_options")  # not there where it is a mapping: its entries are
    if options is not None:
        problems.append(f"model.connector_options is {options!r}; it must hold options by name, such as num_queries")
    if not _is_merge_schedule(values["model.merge_r"]):
        problems.append(
            f"model.merge_r is {values['model.merge_r']!r}; it must be a number, a list of one a layer, "
            "or [r, inflection]"
        )
    return problems


def _problems_of_scst(values: Mapping[str, Any]) -> list[str]:
    problems = []
    baseline = values["scst.baseline"]
    if baseline in ("loo", "mean") and values["scst.num_samples"] < 2:
        problems.append(f"scst.baseline={baseline} compares samples of one clip; set scst.num_samples to 2 or more")
    if values["scst.candidates"] == "beams":
        problems += [
            f"{key} is {values[key]:g}, which is of drawing, and scst.candidates=beams draws nothing; set it to 1"
            for key in ("scst.temperature", "scst.top_p")
            if values[key] != 1
        ]
    if not 0 <= values["scst.cross_entropy_weight"] < 1:
        problems.append(
            f"scst.cross_entropy_weight is {values['scst.cross_entropy_weight']}; it must be at least 0 and below 1"
        )
    if values["stage"] == "scst" and values["init"] == TOWERS:
        problems.append(
            f"init is {TOWERS}, a new model, and the scst stage needs one that captions already; train it with "
            "stage=caption first"
        )
    try:
        parse_reward(values["scst.reward"])
    except UserError as error:
        problems.append(f"scst.reward: {error}")
    return problems


def _problems_of_features(values: Mapping[str, Any]) -> list[str]:
    if values["data.features"] is None:
        return []
    reason = "features are of one set of frames of each clip, so data.features needs"
    train, evaluation = values["data.train_sampling"], values["data.eval_sampling"]
    problems = []
    if train != evaluation:
        problems.append(f"{reason} data.train_sampling={evaluation}, that of evaluation; it is {train}")
    if values["data.augment"]:
        problems.append(f"{reason} data.augment=false; it is true")
    if values["data.sources"]:
        problems.append("data.features cannot be used with data.sources; train on one data set")
    if values["model.contextualizer"] == "in_tower":
        problems.append(
            "data.features holds what the tower makes of frames, which contextualizers inside it change; set "
            "model.contextualizer to none or merged, or data.features to null"
        )
    if values["model.connector"] == "videochat":
        problems.append(
            "data.features holds what the tower's last block makes of frames, and model.connector=videochat reads the "
            "blocks before it too; set data.features to null"
        )
    return problems


def _arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the trainer by name; what is in one that is a section itself is not checked."""
    inside = {key.removeprefix(f"{_ARGUMENTS}."): value for key, value in values.items() if key.startswith(_ARGUMENTS)}
    return {key.partition(".")[0]: {} if "." in key else value for key, value in inside.items()}


def _is_merge_schedule(value: Any) -> bool:
    numbers = value if isinstance(value, list) and value else [value]
    return value is None or all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)


def flat_settings(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings of nested sections by their keys with dots."""
    values: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            values.update(flat_settings(value, f"{prefix}{name}."))
        else:
            values[prefix + name] = value
    return values


def raise_all(problems: list[str], config: str = "The config") -> None:
    """Raise one error that lists all problems of a config, where there are some."""
    if problems:
        count = "a problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UserError(f"{config} has {count}:\n" + "\n".join(f"  - {problem}" for problem in problems))

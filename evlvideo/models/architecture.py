"""A model's architecture as a YAML file, for new models and estimates, which have no checkpoint."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from evlvideo.errors import UserError
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.connectors import TOMEFORMER
from evlvideo.yaml_values import parse_overrides, read_values

COMPARED = (
    "vision_tower",
    "vision_overrides",
    "vision_final_norm",
    "connector",
    "connector_options",
    "bert_config",
    "text_config",
)
"""Keys that a checkpoint must have as its run's architecture file says; not names of files, nor what runs change."""
_NOT_COMPARED = ("max_position_embeddings", "hidden_dropout_prob", "attention_probs_dropout_prob")
"""Not compared: a connector with positions for no more than the tower's tokens is the same model, and runs change its
dropout."""


def read_architecture(path: Path) -> EvlVideoConfig:
    """Read an architecture file: values of :class:`EvlVideoConfig`, in YAML.

    Raises:
        UserError: the file cannot be read, or has unknown keys or wrong values.
    """
    return make_architecture(read_values(path, "architecture"), f"The architecture {path}")


def architecture_changes(overrides: list[str]) -> dict[str, Any]:
    """Parse changes to :class:`EvlVideoConfig` from `key=value`.

    Raises:
        UserError: a key is unknown.
    """
    changes = parse_overrides(overrides)
    _check_keys(changes, "The architecture")
    return changes


def make_architecture(values: Mapping[str, Any], where: str) -> EvlVideoConfig:
    """Build an architecture, with readable errors.

    Args:
        values: by key of :class:`EvlVideoConfig`.
        where: source of the values, for errors.

    Raises:
        UserError: a key is unknown, or a value is wrong or of the wrong type.
    """
    _check_keys(values, where)
    try:
        return EvlVideoConfig(**values)
    except (StrictDataclassError, TypeError) as error:
        raise UserError(f"{where} has a value of the wrong kind: {' '.join(str(error).split())}") from error


def check_same_architecture(
    path: Path, found: EvlVideoConfig, checkpoint: Path, *, keys: Sequence[str] = COMPARED
) -> None:
    """Compare a checkpoint with the architecture file of its run.

    Args:
        path: the file.
        found: the checkpoint's architecture.
        checkpoint: its directory.
        keys: what has to be equal.

    Raises:
        UserError: values differ; all differences are listed.
    """
    stated = {"connector": TOMEFORMER, **read_values(path, "architecture")}
    differences = [
        f"{name} is {actual!r} in the checkpoint and {wanted!r} in the file"
        for key in keys
        for name, wanted, actual in _pairs(key, stated.get(key), getattr(found, key))
        if wanted != actual
    ]
    if differences:
        raise UserError(
            f"The checkpoint {checkpoint} is not of the architecture {path}:\n"
            + "\n".join(f"  - {difference}" for difference in differences)
        )


def _pairs(key: str, wanted: Any, actual: Any) -> list[tuple[str, Any, Any]]:
    if wanted is None:
        return []
    if isinstance(wanted, dict):
        values = actual.to_dict() if isinstance(actual, PreTrainedConfig) else actual or {}
        return [
            (f"{key}.{name}", value, values.get(name)) for name, value in wanted.items() if name not in _NOT_COMPARED
        ]
    return [(key, wanted, actual)]


def _check_keys(values: Mapping[str, Any], where: str) -> None:
    allowed = EvlVideoConfig.__annotations__.keys() - {"model_type", "sub_configs"}
    unknown = sorted(map(str, values.keys() - allowed))
    if unknown:
        raise UserError(f"{where} has unknown keys: {', '.join(unknown)}; allowed: {', '.join(sorted(allowed))}.")

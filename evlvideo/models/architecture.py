"""A model's architecture as a YAML file, for what has no checkpoint yet: new models and estimates."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from evlvideo.errors import UserError
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.connectors.options import TOMEFORMER
from evlvideo.yaml_values import parse_overrides, read_values

_COMPARED = (
    "vision_tower",
    "vision_overrides",
    "vision_final_norm",
    "connector",
    "connector_options",
    "bert_config",
    "text_config",
)
"""What a checkpoint must have as its run's architecture file says; names of files and what runs change are not here."""
_ROOM = "max_position_embeddings"
"""Room for tokens: a connector with places for no more than the tower's tokens is the same model."""


def read_architecture(path: Path) -> EvlVideoConfig:
    """Read an architecture file: values of :class:`EvlVideoConfig`, in YAML.

    Raises:
        UserError: the file cannot be read, or has unknown keys or wrong values.
    """
    return make_architecture(read_values(path, "architecture"), f"The architecture {path}")


def architecture_changes(overrides: list[str]) -> dict[str, Any]:
    """Values of :class:`EvlVideoConfig` from `key=value`.

    Raises:
        UserError: a key that it does not have.
    """
    changes = parse_overrides(overrides)
    _check_keys(changes, "The architecture")
    return changes


def make_architecture(values: Mapping[str, Any], where: str) -> EvlVideoConfig:
    """Build an architecture, with errors for people.

    Args:
        values: by key of :class:`EvlVideoConfig`.
        where: what an error names as the source of the values.

    Raises:
        UserError: an unknown key, or a value that is wrong or of the wrong kind.
    """
    _check_keys(values, where)
    try:
        return EvlVideoConfig(**values)
    except (StrictDataclassError, TypeError) as error:
        raise UserError(f"{where} has a value of the wrong kind: {' '.join(str(error).split())}") from error


def check_same_architecture(
    path: Path, found: EvlVideoConfig, checkpoint: Path, *, keys: Sequence[str] = _COMPARED
) -> None:
    """Hold a checkpoint against the architecture file of its run.

    Args:
        path: the file.
        found: the checkpoint's architecture.
        checkpoint: where it is.
        keys: what has to be the same.

    Raises:
        UserError: sizes or kinds differ; all differences are listed.
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
        return [(f"{key}.{name}", value, values.get(name)) for name, value in wanted.items() if name != _ROOM]
    return [(key, wanted, actual)]


def _check_keys(values: Mapping[str, Any], where: str) -> None:
    allowed = EvlVideoConfig.__annotations__.keys() - {"model_type", "sub_configs"}
    unknown = sorted(map(str, values.keys() - allowed))
    if unknown:
        raise UserError(f"{where} has unknown keys: {', '.join(unknown)}; allowed: {', '.join(sorted(allowed))}.")

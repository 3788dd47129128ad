"""A model's architecture as a YAML file, for what has no checkpoint yet: new models and estimates."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from evlvideo.config import RunConfig
from evlvideo.errors import UserError
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.connectors.options import TOMEFORMER, is_frame_by_frame
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
_BY_CONNECTOR = ("connector", "connector_options")
_OF_CONNECTOR = ("connector_options", "merge_r", "merge_reduction")
"""Values that mean nothing to another connector."""
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


def run_architecture(config: RunConfig) -> EvlVideoConfig:
    """The architecture of a run's model: its file's, else its checkpoint's, with the changes that the run makes.

    Raises:
        UserError: there is neither file nor checkpoint, or a value is wrong.
    """
    if config.architecture is not None:
        architecture = read_architecture(Path(config.architecture))
    else:
        architecture = EvlVideoConfig.from_pretrained(checkpoint_directory(config.init))
    return changed_by_run(architecture, config)


def changed_by_run(architecture: EvlVideoConfig, config: RunConfig) -> EvlVideoConfig:
    """An architecture with the values that a run's `model` section sets.

    With another connector, values that speak of the old one are dropped.
    """
    changes = {name: value for name, value in asdict(config.model).items() if value is not None}
    if not changes:
        return architecture
    kept = architecture.to_dict()
    connector = changes.get("connector", architecture.connector)
    if connector != architecture.connector:
        kept |= dict.fromkeys(_OF_CONNECTOR)
    options = {**(kept["connector_options"] or {}), **changes.pop("connector_options", {})}
    if not is_frame_by_frame(connector, options):
        kept["fusion"] = None
    return EvlVideoConfig.from_dict({**kept, **changes, "connector_options": options or None})


def compared_keys(config: RunConfig) -> tuple[str, ...]:
    """What a run's checkpoint must have as its architecture file says: all that the run itself does not change."""
    changed = _BY_CONNECTOR if config.model.connector is not None else ()
    return tuple(key for key in _COMPARED if key not in changed and getattr(config.model, key, None) is None)


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

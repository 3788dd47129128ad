"""From a run's config to its model's architecture."""

from dataclasses import asdict
from pathlib import Path

from evlvideo.config.run import RunConfig
from evlvideo.models.architecture import _COMPARED, read_architecture
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.connectors.options import is_frame_by_frame

_BY_CONNECTOR = ("connector", "connector_options")


_OF_CONNECTOR = ("connector_options", "merge_r", "merge_reduction")
"""Values that mean nothing to another connector."""


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

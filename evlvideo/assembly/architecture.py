"""From a run's config to its model's architecture."""

from dataclasses import asdict
from pathlib import Path

from evlvideo.config.run import RunConfig
from evlvideo.models.architecture import COMPARED, read_architecture
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.configuration import EvlVideoConfig

_BY_CONNECTOR = ("connector", "connector_options")


def run_architecture(config: RunConfig) -> EvlVideoConfig:
    """Read the architecture of a run's model, from its file or its checkpoint, with the changes of the run.

    Raises:
        UserError: there is neither file nor checkpoint, or a value is wrong.
    """
    if config.architecture is not None:
        architecture = read_architecture(Path(config.architecture))
    else:
        architecture = EvlVideoConfig.from_pretrained(checkpoint_directory(config.init))
    return changed_by_run(architecture, config)


def changed_by_run(architecture: EvlVideoConfig, config: RunConfig) -> EvlVideoConfig:
    """Change an architecture by the values that a run's `model` section sets."""
    changes = {name: value for name, value in asdict(config.model).items() if value is not None}
    return architecture.changed(**changes) if changes else architecture


def compared_keys(config: RunConfig) -> tuple[str, ...]:
    """Name what a run's checkpoint must have as its architecture file says: all that the run does not change."""
    changed = _BY_CONNECTOR if config.model.connector is not None else ()
    return tuple(key for key in COMPARED if key not in changed and getattr(config.model, key, None) is None)

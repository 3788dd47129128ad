"""Read the architecture of a run's model from its config."""

from dataclasses import asdict
from pathlib import Path

from evlvideo.config.run import TOWERS, RunConfig
from evlvideo.models.architecture import COMPARED, read_architecture
from evlvideo.models.checkpoint import checkpoint_directory, read_configuration
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.towers import check_towers

_BY_CONNECTOR = ("connector", "connector_options")


def run_architecture(config: RunConfig) -> EvlVideoConfig:
    """Read the architecture from the run's file or checkpoint, and apply the run's changes.

    Raises:
        UserError: there is neither a file nor a checkpoint, a value is wrong, or the vision tower of a new model is not
            the one that its weights were trained in.
    """
    if config.architecture is not None:
        architecture = read_architecture(Path(config.architecture))
        if config.init == TOWERS:
            check_towers(architecture)
    else:
        architecture = read_configuration(checkpoint_directory(config.init))
    return changed_by_run(architecture, config)


def changed_by_run(architecture: EvlVideoConfig, config: RunConfig) -> EvlVideoConfig:
    """Apply the values set in a run's `model` section to an architecture."""
    changes = {name: value for name, value in asdict(config.model).items() if value is not None}
    return architecture.changed(**changes) if changes else architecture


def compared_keys(config: RunConfig) -> tuple[str, ...]:
    """List the keys in which a run's checkpoint must equal its architecture file: those that the run does not set."""
    changed = _BY_CONNECTOR if config.model.connector is not None else ()
    return tuple(key for key in COMPARED if key not in changed and getattr(config.model, key, None) is None)

"""Read what a run trains from its config."""

from dataclasses import asdict
from pathlib import Path

from evlvideo.config.run import TOWERS, RunConfig
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.models.towers import MANIFEST_NAME, read_held_weights
from evlvideo.models.trainable import Trained


def trained_by(config: RunConfig) -> Trained:
    """Return what a run trains: the parts whose learning rate is not 0.

    In the self-critical stage, the model that is trained is the one that is sampled, without dropout.
    """
    training = config.training
    frozen = frozenset(part for part, rate in asdict(training.learning_rates).items() if rate == 0)
    return Trained(frozen, training.vision_blocks, dropout=config.stage != "scst")


def held_at_start(config: RunConfig) -> tuple[str, ...]:
    """Return the prefixes of the towers' own weights that the checkpoint a run starts from holds, if it has one.

    Raises:
        UserError: there is no checkpoint, or its manifest is malformed.
    """
    if config.init == TOWERS:
        return ()
    if config.architecture is not None and not (Path(config.init) / MANIFEST_NAME).is_file():
        return ()  # an estimate of what is not there yet
    return read_held_weights(checkpoint_directory(config.init))

"""Reports a run to trackers such as TensorBoard or W&B, in addition to its own log."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import Trainer
from transformers.integrations.integration_utils import (
    TensorBoardCallback,
    WandbCallback,
    get_reporting_integration_callbacks,
)

from evlvideo.errors import UserError

TENSORBOARD_NAME = "tensorboard"
"""Directory of TensorBoard's files, inside the run's."""


def check_trackers(report_to: list[str]) -> None:
    """Check that the trackers are known and installed.

    Raises:
        UserError: a tracker is unknown or not installed; the message says what to install.
    """
    for name in report_to:
        try:
            for tracker in get_reporting_integration_callbacks([name]):
                tracker()
        except (ValueError, RuntimeError, ImportError) as error:
            raise UserError(f"training.arguments.report_to names {name}: {error}") from error


@contextmanager
def trackers_of_run(trainer: Trainer, directory: Path) -> Iterator[None]:
    """Give a trainer's trackers a run of their own inside the block.

    TensorBoard's files go into the run's directory, unless the environment names another one. A W&B run ends with the
    block, so the next training in this process starts its own.

    Args:
        trainer: the trainer that runs in the block.
        directory: directory of the run.
    """
    callbacks = trainer.callback_handler.callbacks
    for tracker in callbacks:
        if isinstance(tracker, TensorBoardCallback) and tracker.logging_dir is None:
            tracker.logging_dir = str(directory / TENSORBOARD_NAME)
    try:
        yield
    finally:
        for tracker in callbacks:
            if isinstance(tracker, WandbCallback) and tracker._wandb.run is not None:
                tracker._wandb.finish()

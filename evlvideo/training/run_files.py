"""Keeps a run's config, its summary and its checkpoints up to date while it trains."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evlvideo.config.loading import save_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError, why_not_written
from evlvideo.results.run_directory import CONFIG_NAME, SUMMARY_NAME
from evlvideo.training.resuming.checkpoints import rotate


@contextmanager
def told_if_not_written(checkpoint: Path) -> Iterator[None]:
    """Say what keeps a checkpoint from being written in the block, and remove what there is of it.

    Raises:
        UserError: the disk is full, or the like. Older checkpoints are as they were.
    """
    try:
        yield
    except Exception as error:
        if (reason := why_not_written(error)) is None:
            raise
        shutil.rmtree(checkpoint, ignore_errors=True)
        raise UserError(
            f"{checkpoint} cannot be written: {reason}. Make room, and give the same command with --resume to go on "
            "from the newest whole checkpoint, or without it if there is none."
        ) from error


class RunFiles(TrainerCallback):
    """Writes the config once training begins, so that a run that could not be resumed keeps its own.

    Args:
        config: the run.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write the config, and remove the summary: a run is not finished until it ends again."""
        directory = Path(self._config.output_dir)
        if state.is_world_process_zero:
            save_config(self._config, directory / CONFIG_NAME)
            (directory / SUMMARY_NAME).unlink(missing_ok=True)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Remove the oldest checkpoints."""
        if state.is_world_process_zero:
            keep, best = self._config.training.keep_checkpoints, state.best_global_step
            rotate(Path(str(args.output_dir)), keep, newest=state.global_step, best=best)

"""Keeps a run's config, its summary and its checkpoints up to date while it trains."""

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evlvideo.config.loading import save_config
from evlvideo.config.run import RunConfig
from evlvideo.results.run_directory import CONFIG_NAME, SUMMARY_NAME
from evlvideo.training.resuming.checkpoints import rotate


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

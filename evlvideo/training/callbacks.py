"""What is done as a run, an epoch or the first step begins, and once a checkpoint is saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evlvideo.config.loading import save_config
from evlvideo.config.run import RunConfig
from evlvideo.results.run_directory import CONFIG_NAME, SUMMARY_NAME
from evlvideo.training.resuming.checkpoints import rotate


class Resumed(TrainerCallback):
    """Restores what transformers resets on resuming, and takes the config's steps.

    Args:
        go_on: restores it.
    """

    def __init__(self, go_on: Callable[[], None]) -> None:
        self._go_on = go_on

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Go on from a checkpoint, if there is one."""
        # The restored state has the steps between log lines, validations and checkpoints of before.
        state.compute_steps(args, state.max_steps)
        self._go_on()


class StartOfRun(TrainerCallback):
    """Looks at a model before its first step, and makes up for a validation that a signal cut short.

    Args:
        look: looks at it.
        validate_if_due: validates before a step, if the run was resumed at a validation.
    """

    def __init__(self, look: Callable[[], None], validate_if_due: Callable[[], None]) -> None:
        self._look = look
        self._validate_if_due = validate_if_due

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Look, unless the run was resumed; then validate, if that is due."""
        if not state.log_history and state.global_step == 0:
            self._look()
        self._validate_if_due()


class EpochOfDataset(TrainerCallback):
    """Tells the dataset its epoch, which accelerate's loader does not do if several processes share it."""

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell it."""
        kwargs["train_dataloader"].dataset.set_epoch(int(state.epoch or 0))


class RunFiles(TrainerCallback):
    """Keeps a run's config, its summary and its checkpoints up to date while it trains.

    The config is written once training begins, so that a run that could not be resumed keeps its own.

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

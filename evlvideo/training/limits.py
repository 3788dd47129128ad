"""What ends a run: its steps, hours that are used up, or validation that no longer gets better."""

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evlvideo.config.training import TrainingConfig

LogHistory = Sequence[Mapping[str, Any]]
"""Entries of a run's log, those before an interruption included."""


def reached_limit(training: TrainingConfig, state: TrainerState) -> str | None:
    """The key of the limit that ended a run, or `None` where it has more to do.

    All is read from the state that checkpoints hold, so that a resumed run ends where an uninterrupted one would, and
    goes on once the limit is raised.
    """
    if state.global_step >= training.max_steps:
        return "training.max_steps"
    if training.patience and validations_since_best(state.log_history) >= training.patience:
        return "training.patience"
    if training.max_hours is not None and seconds_of_log(state.log_history) >= 3600 * training.max_hours:
        return "training.max_hours"
    return None


def validations_since_best(log_history: LogHistory) -> int:
    """How many validations in a row were no better than the best before them."""
    ciders = [entry["validation_cider"] for entry in log_history if "validation_cider" in entry]
    return len(ciders) - 1 - ciders.index(max(ciders)) if ciders else 0


def seconds_of_log(log_history: LogHistory) -> float:
    """Seconds of training up to the last entry."""
    return next((entry["training_seconds"] for entry in reversed(log_history) if "training_seconds" in entry), 0.0)


class StopWithoutProgress(TrainerCallback):
    """Ends training after validations in a row that were no better.

    transformers' own callback for this keeps its count in itself, and loses it where a run is resumed.

    Args:
        patience: how many; 0 never ends it.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Look at the log, which is the same in all processes."""
        if self._patience and validations_since_best(state.log_history) >= self._patience:
            control.should_save = True
            control.should_training_stop = True
        return control

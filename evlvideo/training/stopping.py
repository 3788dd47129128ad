"""Ends a run at its limits on steps, hours and validations, if it collapsed, on Ctrl-C, or on a cluster's signal."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from evlvideo.config.training import TrainingConfig
from evlvideo.processes import signals_to_catch
from evlvideo.training.health.collapse import signs_of_validation

LogHistory = Sequence[Mapping[str, Any]]
"""Entries of a run's log, including those before an interruption."""

SAME_SIGNAL_SECONDS = 1.0
"""Signals this close together count as one: clusters and terminals signal every process, and launchers pass it on."""
COLLAPSED = "training.stop_on_collapse"
"""The key that ends a run that has collapsed."""
VOTE_SECONDS = 5.0
"""Approximate interval of votes on stopping by several processes. They, and their devices, wait for each vote."""

_OF_PEOPLE = (signal.SIGINT, signal.SIGTERM)
"""Signals of which a second one acts at once. Others come again: SIGXCPU comes every second."""
_MOST_STEPS_BETWEEN_VOTES = 100


def reached_limit(training: TrainingConfig, state: TrainerState) -> str | None:
    """Name the key that ended a run; `None` if it has more to do.

    Reads only what checkpoints hold, so a resumed run ends where an uninterrupted one would, and continues once the
    key is changed.
    """
    if state.global_step >= training.max_steps:
        return "training.max_steps"
    if training.patience and validations_since_best(state.log_history) >= training.patience:
        return "training.patience"
    if training.stop_on_collapse and has_collapsed(state.log_history):
        return COLLAPSED
    if training.max_hours is not None and seconds_of_log(state.log_history) >= 3600 * training.max_hours:
        return "training.max_hours"
    return None


def validations_since_best(log_history: LogHistory) -> int:
    """Count the latest validations that did not improve on the best before them, in CIDEr or in right answers."""
    keys = ("validation_cider", "validation_accuracy")
    scores = [entry[key] for entry in log_history for key in keys if key in entry]
    return len(scores) - 1 - scores.index(max(scores)) if scores else 0


def has_collapsed(log_history: LogHistory) -> bool:
    """Return whether the latest validation has signs of collapse that end a run where that is asked for."""
    return any(sign.stops for sign in signs_of_validation(log_history))


def seconds_of_log(log_history: LogHistory) -> float:
    """Return the seconds of training up to the last entry."""
    return next((entry["training_seconds"] for entry in reversed(log_history) if "training_seconds" in entry), 0.0)


class EarlyStopping(TrainerCallback):
    """Ends training after several validations in a row without progress, or at the first with signs of collapse.

    Looks into the log, which checkpoints keep; transformers' own callback forgets its count when a run is resumed.

    Args:
        patience: number of validations; 0 never ends training.
        stop_on_collapse: whether signs of collapse end training.
    """

    def __init__(self, patience: int, *, stop_on_collapse: bool = False) -> None:
        self._patience = patience
        self._stop_on_collapse = stop_on_collapse

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Look at the log, which is the same in all processes."""
        waited = self._patience and validations_since_best(state.log_history) >= self._patience
        if waited or (self._stop_on_collapse and has_collapsed(state.log_history)):
            control.should_save = True
            control.should_training_stop = True
        return control


class GracefulStop(TrainerCallback):
    """Saves and stops after a signal or once the time is up, at the same step in all processes.

    It listens for :func:`evlvideo.processes.signals_to_catch`. A second SIGINT or SIGTERM acts as it would without this
    callback.

    Args:
        out_of_time: whether a time limit is reached. Only the main process's clock counts.
    """

    def __init__(self, out_of_time: Callable[[], bool] = lambda: False) -> None:
        self.stopped = False
        """Whether a signal stopped the run, as agreed by all processes."""
        self._out_of_time = out_of_time
        self._signalled_at: dict[int, float] = {}
        """Signal → time of the first."""
        self._previous: dict[signal.Signals, Any] = {}
        self._last_vote = (0, 0.0)
        """Step and time of the last vote."""
        self._next_vote = 0

    @property
    def signalled(self) -> bool:
        """Whether this process got a signal."""
        return bool(self._signalled_at)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch signals inside the block. Only the main thread can; in any other, signals act as usual."""
        try:
            self._previous = {number: signal.signal(number, self._on_signal) for number in signals_to_catch()}
        except ValueError:
            self._previous = {}
        try:
            yield
        finally:
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if number not in self._signalled_at:
            self._signalled_at[number] = now
        elif number in _OF_PEOPLE and now - self._signalled_at[number] > SAME_SIGNAL_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record when the first step begins."""
        self._last_vote = (state.global_step, time.monotonic())

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Save and stop if asked to; validate too if the time is up."""
        if args.world_size > 1 and state.global_step < self._next_vote:
            return control
        out_of_time = self._stop_if_asked(args, state, control)
        control.should_evaluate |= out_of_time and not self.stopped
        return control

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Save and stop if a signal came during the validation, which may have taken long."""
        self._stop_if_asked(args, state, control)
        return control

    def _stop_if_asked(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> bool:
        """Return whether the time is up."""
        self.stopped, out_of_time = self._agree(args, state.global_step)
        if self.stopped or out_of_time:
            control.should_save = True
            control.should_training_stop = True
        return out_of_time

    def _agree(self, args: TrainingArguments, step: int) -> tuple[bool, bool]:
        """Return whether any process was signalled, and whether the main one's time is up."""
        out_of_time = args.process_index == 0 and self._out_of_time()
        if args.world_size == 1:
            return self.signalled, out_of_time
        last_step, last_time = self._last_vote
        now = time.monotonic()
        step_seconds = (now - last_time) / max(1, step - last_step)
        votes = torch.tensor([float(self.signalled), float(out_of_time), step_seconds], device=args.device)
        torch.distributed.all_reduce(votes, op=torch.distributed.ReduceOp.MAX)
        signalled, main_out_of_time, slowest = votes.tolist()
        # Computed from values that all processes share, so that all vote at the same step again.
        self._next_vote = step + max(1, min(_MOST_STEPS_BETWEEN_VOTES, int(VOTE_SECONDS / max(slowest, 1e-6))))
        self._last_vote = (step, now)
        return bool(signalled), bool(main_out_of_time)

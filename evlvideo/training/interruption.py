"""Ctrl-C, the signal with which clusters end a job, or a time limit stops a run after a step, with a checkpoint."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_SIGNAL_SECONDS = 1.0
"""Within them it is one signal: a cluster or a terminal signals all processes, and launchers pass on what they get."""
VOTE_SECONDS = 5.0
"""About so often several processes ask each other whether to stop. It makes them, and their devices, wait."""
_MOST_STEPS_BETWEEN_VOTES = 100


class StopInOrder(TrainerCallback):
    """Asks the trainer to save and stop once a signal came or the time is up, in all processes at the same step.

    A second signal acts as it would without us.

    Args:
        out_of_time: tells whether a time limit is reached. With several processes, the first one's clock counts.
    """

    def __init__(self, out_of_time: Callable[[], bool] = lambda: False) -> None:
        self.stopped = False
        """Whether a signal stopped the run, as all processes agreed."""
        self._out_of_time = out_of_time
        self._signalled = False
        self._since = 0.0
        self._previous: dict[signal.Signals, Any] = {}
        self._last_vote = (0, 0.0)
        """Its step, and when it was."""
        self._next_vote = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch signals inside the block. Only a main thread can; in another, they act as always."""
        try:
            self._previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
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
        if not self._signalled:
            self._signalled, self._since = True, now
        elif now - self._since > SAME_SIGNAL_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note when the first step begins."""
        self._last_vote = (state.global_step, time.monotonic())

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Save and stop; where the time is up, validate as well."""
        if args.world_size > 1 and state.global_step < self._next_vote:
            return control
        out_of_time = self._stop_where_asked(args, state, control)
        control.should_evaluate |= out_of_time and not self.stopped
        return control

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Save and stop after a validation during which a signal came, which took long enough."""
        self._stop_where_asked(args, state, control)
        return control

    def _stop_where_asked(self, args: TrainingArguments, state: TrainerState, control: TrainerControl) -> bool:
        """Returns whether the time is up."""
        self.stopped, out_of_time = self._agree(args, state.global_step)
        if self.stopped or out_of_time:
            control.should_save = True
            control.should_training_stop = True
        return out_of_time

    def _agree(self, args: TrainingArguments, step: int) -> tuple[bool, bool]:
        """Whether any process was signalled, and whether the first one's time is up."""
        out_of_time = args.process_index == 0 and self._out_of_time()
        if args.world_size == 1:
            return self._signalled, out_of_time
        last_step, last_time = self._last_vote
        now = time.monotonic()
        step_seconds = (now - last_time) / max(1, step - last_step)
        votes = torch.tensor([float(self._signalled), float(out_of_time), step_seconds], device=args.device)
        torch.distributed.all_reduce(votes, op=torch.distributed.ReduceOp.MAX)
        signalled, out_of_time_of_first, slowest = votes.tolist()
        # Of what all know, so that all vote in the same step again.
        self._next_vote = step + max(1, min(_MOST_STEPS_BETWEEN_VOTES, int(VOTE_SECONDS / max(slowest, 1e-6))))
        self._last_vote = (step, now)
        return bool(signalled), bool(out_of_time_of_first)

"""Ctrl-C, and the signal with which clusters end a job, stop a run at the end of its step, with a checkpoint."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAME_SIGNAL_SECONDS = 1.0
"""Within them it is one signal: a cluster or a terminal signals all processes, and launchers pass on what they get."""


class StopOnSignal(TrainerCallback):
    """Asks the trainer to save and stop once a signal came. A later one acts as it would without us."""

    def __init__(self) -> None:
        self.stopped = False
        self._since = 0.0
        self._previous: dict[signal.Signals, Any] = {}

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
        if not self.stopped:
            self.stopped, self._since = True, now
        elif now - self._since > SAME_SIGNAL_SECONDS:
            self._restore()
            signal.raise_signal(number)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Save and stop, in all processes at the same step."""
        if args.world_size > 1:
            flag = torch.tensor(float(self.stopped), device=args.device)
            torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX)
            self.stopped = bool(flag.item())
        if self.stopped:
            control.should_save = True
            control.should_training_stop = True
        return control

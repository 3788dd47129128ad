"""Several short trainings at a time, each in a process of its own and on one thread.

A small model trains hardly faster on two threads than on one, so that a machine's cores do more with a training each.
What comes out does not depend on how many there are at a time, as sums in a training are always made by one thread.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from rich.console import Console

from evlvideo.config.run import RunConfig
from evlvideo.errors import Interrupted, UserError
from evlvideo.terminal import prepare
from evlvideo.training.run import train

Start = Callable[[RunConfig], "Future[Path]"]
"""Begins a training as soon as there is room for it; what comes of it is the run's directory."""


def train_quietly(config: RunConfig) -> Path:
    """Train without a progress bar, which would draw over that of another training."""
    return train(config, console=Console(quiet=True))


@contextmanager
def parallel_trainings(at_a_time: int, work: Callable[[RunConfig], Path] = train_quietly) -> Iterator[Start]:
    """Train in processes while the block runs, and wait for those that are left at its end.

    An error in the block, an interrupt, or the signal with which clusters end a job stops all of them in order.

    Args:
        at_a_time: how many.
        work: what each does, importable by its name.

    Raises:
        Interrupted: a signal came.
        UserError: the system ended a process.
    """
    # A fork would inherit threads of torch that are not there.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(at_a_time, context, initializer=_begin) as pool, _interrupted_by_sigterm():
        try:
            yield lambda config: pool.submit(work, config)
        except BaseException as error:
            for process in multiprocessing.active_children():
                if isinstance(process, SpawnProcess):
                    process.terminate()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise UserError(
                    "The system ended a process that trained; there may not be enough memory for "
                    f"{at_a_time} at a time."
                ) from error
            raise


def _begin() -> None:
    import torch

    # A terminal sends it to all processes, and this one is stopped by the one that began it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare()
    torch.set_num_threads(1)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Turn the signal into an error, so that trainings are stopped with this process. Only a main thread can."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted("Stopped by a signal.")

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)

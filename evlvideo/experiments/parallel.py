"""Run several short trainings in parallel, each in its own process on one thread.

A small model hardly trains faster on two threads, so one training a core gets more done. Results do not depend on the
number of parallel trainings, as each sums on one thread.
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import SpawnProcess
from pathlib import Path
from threading import Thread

from rich.console import Console

from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.processes import end_at_once, interrupted_by_signals
from evlvideo.terminal import prepare
from evlvideo.training.run import train

Start = Callable[[RunConfig], "Future[Path]"]
"""Submits a training; the future holds the run's directory."""


def train_quietly(config: RunConfig) -> Path:
    """Train without a progress bar, which would overwrite those of other trainings."""
    return train(config, console=Console(quiet=True))


@contextmanager
def parallel_trainings(at_a_time: int, work: Callable[[RunConfig], Path] = train_quietly) -> Iterator[Start]:
    """Train in processes while the block runs, and wait for the rest at its end.

    An error in the block, an interrupt, or a signal by which clusters end a job stops all trainings in order.

    Args:
        at_a_time: number of processes.
        work: the function that each process runs; it must be importable.

    Raises:
        Interrupted: a signal came.
        UserError: the system ended a process.
    """
    # A forked process would lack the threads that torch believes it has.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(at_a_time, context, initializer=_begin) as pool, interrupted_by_signals():
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

    # A terminal signals all processes; this one is stopped by its parent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare()
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process if its parent is killed: nobody would take what it trains, and it would never end."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    end_at_once(1)

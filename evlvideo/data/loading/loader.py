"""Data loaders whose workers fit the machine and leave signals to their parent process."""

import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from evlvideo.processes import usable_cores


def batch_loader(
    dataset: Dataset[Any],
    batches: Sequence[Sequence[int]],
    collate: Callable[[list[Any]], Any],
    *,
    num_workers: int,
) -> "DataLoader[Any]":
    """Load given batches of a dataset, without touching torch's global generator.

    Args:
        dataset: the items.
        batches: the indices of each batch, in order.
        collate: makes a batch of items.
        num_workers: upper bound of worker processes; no more are started than there are batches or cores.
    """
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=batches,  # type: ignore[arg-type]  # a range serves as a list
        collate_fn=collate,
        # A worker makes whole batches; with a single batch there is nothing to do in parallel.
        # A worker makes whole batches, so a single batch needs none. torch warns of more workers than cores.
        num_workers=min(num_workers, len(batches), usable_cores()) if len(batches) > 1 else 0,
        pin_memory=torch.cuda.is_available(),
        # A loader samples a seed for its workers; with its own generator, it does not change training's randomness.
        generator=torch.Generator(),
    )
    leave_signals_to_parent(loader)
    return loader


def end_workers(loaded: Iterator[Any]) -> None:
    """End the workers behind a loader's iterator now.

    After an error or a signal, its traceback would keep the iterator, and the program would wait for its workers at
    exit.
    """
    if hasattr(loaded, "_shutdown_workers"):
        loaded._shutdown_workers()


def leave_signals_to_parent(loader: "DataLoader[Any]") -> None:
    """Keep a loader's workers alive when their process group, or their job on a cluster, gets a signal to end.

    The parent process gets the signal as well, and needs their batches to finish its step. SIGINT never ends a worker;
    a second SIGTERM does.

    Args:
        loader: its workers have not started. Changed in place; its own `worker_init_fn` still runs. For accelerate's
            loaders, pass the inner one.
    """
    if loader.num_workers > 0:
        loader.worker_init_fn = partial(_start_worker, then=loader.worker_init_fn)


def _start_worker(worker: int, then: Callable[[int], None] | None) -> None:
    # torch sets its worker handlers before this runs. SIGINT's handler is the parent's, or Python's default.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _ignore_once)
    if then is not None:
        then(worker)


def _ignore_once(number: int, frame: FrameType | None) -> None:
    # The next SIGTERM comes from the parent, which ends a worker that hangs.
    signal.signal(number, signal.SIG_DFL)

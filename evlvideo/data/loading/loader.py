"""Data loaders whose workers fit the machine, leave signals to their parent process, and never keep it waiting."""

import os
import pickle
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import Any, Generic, TypeVar, cast

import torch
from accelerate import skip_first_batches
from torch.utils.data import DataLoader, Dataset, get_worker_info

from evlvideo.errors import UserError
from evlvideo.processes import STOP_SIGNALS, keeping_handler, usable_cores

Batch = TypeVar("Batch")

MOST_RESTARTS = 5
"""Times that the workers behind one iterator are started again."""

_ENDED = re.compile(r"DataLoader worker \(pid.*(killed by signal|exited unexpectedly)")


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
        # A worker makes whole batches, so a single batch needs none. torch warns of more workers than cores.
        num_workers=min(num_workers, len(batches), usable_cores()) if len(batches) > 1 else 0,
        pin_memory=torch.cuda.is_available(),
        # A loader samples a seed for its workers; with its own generator, it does not change training's randomness.
        generator=torch.Generator(),
    )
    prepare_workers(loader)
    return loader


def prepare_workers(loader: "DataLoader[Any]") -> None:
    """Let a loader's workers leave signals to their parent, and tell it of every error.

    The parent process gets a signal to its process group, or its job on a cluster, as well, and needs the workers'
    batches to finish its step. Only SIGTERM from the parent itself ends a worker.

    Args:
        loader: its workers have not started. Changed in place; its own `worker_init_fn` and `collate_fn` still run.
            For accelerate's loaders, pass the inner one.
    """
    if loader.num_workers > 0:
        loader.worker_init_fn = partial(_start_worker, then=loader.worker_init_fn)
        loader.collate_fn = partial(_collate_and_pickle, collate=loader.collate_fn)


class RestartingBatches(Iterator[Batch], Generic[Batch]):
    """Batches of a loader, whose workers are started again if the system ends them, as it does when memory is short.

    Args:
        loader: all batches. Its workers start with the first one.
        loader_after: makes a loader of the batches after a given number. Items must not depend on the worker.
        tell: takes a line when workers start again.
    """

    def __init__(
        self, loader: Iterable[Batch], loader_after: Callable[[int], Iterable[Batch]], tell: Callable[[str], object]
    ) -> None:
        self._loader = loader
        self._loader_after = loader_after
        self._batches: Iterator[Batch] | None = None
        self._tell = tell
        self._restarts = self._taken = 0

    def __next__(self) -> Batch:
        """Return the next batch.

        Raises:
            UserError: raised by a worker; or workers end again and again, or cannot hand over what they made.
        """
        while True:
            try:
                # torch's handler would raise wherever this process is when a worker ends, even inside a step. It is set
                # when workers start, and they may end while they do.
                with keeping_handler(signal.SIGCHLD):
                    if self._batches is None:
                        self._batches = iter(self._loader)
                    batch = next(self._batches)
            except RuntimeError as error:
                if not _ENDED.search(str(error)):
                    raise
                self._note_end(str(error).strip(" ."))
            except UserError as error:
                raise _as_raised(error) from None
            else:
                self._taken += 1
                return batch
            # Outside the `except` clause, whose traceback keeps the old workers.
            self._batches = None
            self._loader = self._loader_after(self._taken)

    def _note_end(self, reason: str) -> None:
        self._restarts += 1
        if self._restarts > MOST_RESTARTS:
            raise UserError(
                f"The processes that load data were ended {self._restarts} times ({reason}). There may not be enough "
                "memory, or not enough in /dev/shm, through which batches go; lower data.num_workers (0 needs none) or "
                "the batch size."
            )
        self._tell(f"A process that loads data was ended ({reason}); starting it again.")

    def close(self) -> None:
        """End the workers now.

        After an error or a signal, its traceback would keep the iterator, and the program would wait for its workers at
        exit.
        """
        if self._batches is not None:
            end_workers(self._batches)


def restarting_epoch(
    loader: Any, batches: Iterator[Batch], *, epoch: int, skipped: int, tell: Callable[[str], object]
) -> RestartingBatches[Batch]:
    """Wrap the batches of an epoch of accelerate's loader, whose workers may end.

    Args:
        loader: accelerate's, over one that :func:`prepare_workers` has seen.
        batches: of the epoch, after those that are skipped.
        epoch: its index.
        skipped: batches of the epoch before the first one.
        tell: takes what happened.
    """

    def loader_after(taken: int) -> Iterable[Batch]:
        loader.base_dataloader._iterator = None
        rest = skip_first_batches(loader, skipped + taken)
        rest.set_epoch(epoch)
        return cast(Iterable[Batch], rest)

    return RestartingBatches(batches, loader_after, tell)


def end_workers(batches: object) -> None:
    """End the workers behind a loader's iterator, or behind a generator over it, if there are any."""
    end = getattr(batches, "_shutdown_workers", None) or getattr(batches, "close", None)
    if end is not None:
        end()


def _as_raised(error: UserError) -> UserError:
    """Return a worker's error with its own message; torch puts a traceback before it."""
    name = f"{type(error).__module__}.{type(error).__qualname__}: "
    _, found, message = str(error).rpartition(name)
    return type(error)(message.strip()) if found else error


class _Pickled:
    """A batch that is pickled already, and arrives as it was.

    A queue pickles in a thread of the worker, where an error is only printed, and the parent waits for ever. Most of
    these errors come from shared memory: it is full, or there are too many files.
    """

    def __init__(self, batch: Any) -> None:
        self._content = bytes(ForkingPickler.dumps(batch))

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return pickle.loads, (self._content,)


def _collate_and_pickle(items: list[Any], collate: Callable[[list[Any]], Any]) -> Any:
    batch = collate(items)
    if get_worker_info() is None:
        return batch
    try:
        return _Pickled(batch)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"A process that loads data cannot hand over a batch: {error}. Batches go through shared memory: enlarge "
            "/dev/shm (in a container, --shm-size), raise the limits of files (`ulimit -n`, `ulimit -f`), or lower "
            "data.num_workers (0 needs none)."
        ) from error


def _start_worker(worker: int, then: Callable[[int], None] | None) -> None:
    # torch sets its worker handlers before this runs. Others are the parent's.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # macOS does not tell who sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_parent_says, daemon=True).start()
    if then is not None:
        then(worker)


def _end_when_the_parent_says() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    signal.raise_signal(signal.SIGTERM)

"""Workers that load data leave it to the process they work for to end them."""

import signal
from collections.abc import Callable
from functools import partial
from types import FrameType

from torch.utils.data import DataLoader


def leave_signals_to_parent(loader: DataLoader) -> None:
    """Let a loader's workers live when their whole process group, or their job on a cluster, is told to end.

    The process they work for is told too, and wants to end its step, for which it needs their batches. Control-C never
    ends a worker, and of SIGTERM the second does.

    Args:
        loader: whose workers have not started; changed in place, and what it had them do at their start is still done.
            Of accelerate's loaders, the one inside.
    """
    if loader.num_workers > 0:
        loader.worker_init_fn = partial(_start_worker, then=loader.worker_init_fn)


def _start_worker(worker: int, then: Callable[[int], None] | None) -> None:
    # Workers set a handler of their own before this runs; the one for Control-C comes from the parent, or is Python's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _pass_once)
    if then is not None:
        then(worker)


def _pass_once(number: int, frame: FrameType | None) -> None:
    # The next comes from the parent, which ends a worker so that hangs.
    signal.signal(number, signal.SIG_DFL)

import os
import signal
import time
from contextlib import suppress
from multiprocessing.process import BaseProcess

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from evlvideo.data.loading.loader import leave_signals_to_parent


class Numbers(Dataset[int]):
    """Numbers that take a moment."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> int:
        time.sleep(0.01)
        return index


class Seeds(Dataset[int]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        return int(os.environ["STARTED_AS"])


def started_as(worker: int) -> None:
    info = get_worker_info()
    assert info is not None
    os.environ["STARTED_AS"] = str(info.id + 7)


def workers_of(items: object) -> list[BaseProcess]:
    return items._workers  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_go_on_when_they_are_told_to_end(number: signal.Signals) -> None:
    loader = DataLoader(Numbers(), batch_size=4, num_workers=2)
    leave_signals_to_parent(loader)
    items = iter(loader)
    found = [next(items)]
    for worker in workers_of(items):
        assert worker.pid is not None
        os.kill(worker.pid, number)
    found += items
    assert torch.cat(found).tolist() == list(range(40))


def test_a_worker_ends_when_it_is_told_again() -> None:
    loader = DataLoader(Numbers(), batch_size=4, num_workers=1)
    leave_signals_to_parent(loader)
    items = iter(loader)
    next(items)
    (worker,) = workers_of(items)
    # torch raises where it is the first to see that the worker is gone.
    with suppress(RuntimeError):
        for _ in range(100):
            # Two signals that come before it looks are one.
            worker.terminate()
            worker.join(timeout=0.1)
    worker.join(timeout=10)
    assert worker.exitcode == -signal.SIGTERM


def test_what_workers_did_at_their_start_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARTED_AS", "0")
    loader = DataLoader(Seeds(), num_workers=1, worker_init_fn=started_as)
    leave_signals_to_parent(loader)
    assert [int(item) for item in loader] == [7, 7]


def test_a_loader_without_workers_is_left_alone() -> None:
    loader = DataLoader(Numbers(), num_workers=0)
    leave_signals_to_parent(loader)
    assert loader.worker_init_fn is None

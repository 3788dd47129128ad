import multiprocessing
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info
from torch.utils.data._utils import signal_handling

from evlvideo.data.loading import loader as module
from evlvideo.data.loading.loader import MOST_RESTARTS, RestartingBatches, batch_loader, prepare_workers
from evlvideo.errors import UserError
from evlvideo.processes import STOP_SIGNALS, keeping_handler


class Numbers(Dataset[int]):
    """Numbers that take a moment."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> int:
        time.sleep(0.01)
        return index


class Ends(Numbers):
    """The system ends the process that reads an item."""

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
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


@pytest.fixture(autouse=True)
def as_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Torch sets a handler of SIGCHLD once a process."""
    monkeypatch.setattr(signal_handling, "_SIGCHLD_handler_set", False)
    with keeping_handler(signal.SIGCHLD):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        yield


def workers_of(items: object) -> list[BaseProcess]:
    return items._workers  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_workers_go_on_when_others_tell_them_to_end(number: signal.Signals) -> None:
    loader = DataLoader(Numbers(), batch_size=4, num_workers=2)
    prepare_workers(loader)
    items = iter(loader)
    found = [next(items)]
    for _ in range(2):
        # From a process that is not their parent, as a terminal or a cluster does.
        subprocess.run(["kill", f"-{int(number)}", *(str(worker.pid) for worker in workers_of(items))], check=True)
    found += items
    assert torch.cat(found).tolist() == list(range(40))


def test_a_worker_ends_when_its_parent_says_so() -> None:
    loader = DataLoader(Numbers(), batch_size=4, num_workers=1)
    prepare_workers(loader)
    with keeping_handler(signal.SIGCHLD):
        items = iter(loader)
        next(items)
    (worker,) = workers_of(items)
    worker.terminate()
    worker.join(timeout=10)
    assert worker.exitcode == -signal.SIGTERM


def restarting(loader: DataLoader[int], told: list[str]) -> RestartingBatches[Any]:
    def after(taken: int) -> Iterable[Any]:
        return batch_loader(loader.dataset, [[number] for number in range(taken, 40)], list, num_workers=2)

    return RestartingBatches(after(0), after, told.append)


def test_workers_that_the_system_ends_start_again_and_no_batch_is_lost() -> None:
    told: list[str] = []
    batches = restarting(DataLoader(Numbers()), told)
    found = []
    for batch in batches:
        found += batch
        if batch[0] in (3, 20):
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
    assert found == list(range(40))
    assert len(told) == 2
    assert "exited unexpectedly" in told[0] or "Killed" in told[0]


def test_workers_that_end_again_and_again_are_a_user_error() -> None:
    told: list[str] = []
    with pytest.raises(UserError, match=r"ended 6 times.*data\.num_workers"):
        list(restarting(DataLoader(Ends()), told))
    assert len(told) == MOST_RESTARTS


class Starting:
    """A loader that starts workers as torch does, and one of them ends before the last has started."""

    def __init__(self, ends: int) -> None:
        self.ends = ends

    def __iter__(self) -> Iterator[list[int]]:
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        if self.ends:
            self.ends -= 1
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
        return iter([[0], [1]])


@pytest.mark.parametrize("ends", [1, 3])
def test_workers_that_end_while_others_start_are_started_again(ends: int) -> None:
    told: list[str] = []
    loader = Starting(ends)
    assert list(RestartingBatches(loader, lambda taken: loader, told.append)) == [[0], [1]]
    assert len(told) == ends
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL


def test_an_end_of_a_worker_does_not_disturb_what_the_parent_does_meanwhile() -> None:
    batches = restarting(DataLoader(Numbers()), [])
    next(batches)
    worker = multiprocessing.active_children()[0]
    worker.kill()
    worker.join()  # torch would raise here
    assert sum(len(batch) for batch in batches) == 39


class Limits(Dataset[torch.Tensor]):
    """Tensors that workers cannot hand over, since they may open no more files, or write none as large."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> torch.Tensor:
        values = torch.zeros(100_000)
        if get_worker_info() is not None:
            most = _lowest_free_file() if self.limit == resource.RLIMIT_NOFILE else 4096
            resource.setrlimit(self.limit, (most, most))
        return values


def _lowest_free_file() -> int:
    """The number that the next file would get; the limit is one on numbers."""
    found = os.open(os.devnull, os.O_RDONLY)
    os.close(found)
    return found


@pytest.mark.parametrize("limit", [resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE])
def test_a_batch_that_cannot_be_handed_over_is_told_and_not_waited_for(limit: int) -> None:
    batches = restarting(DataLoader(Limits(limit)), [])
    with pytest.raises(UserError, match=r"^A process that loads data cannot hand over a batch.*data\.num_workers"):
        next(batches)
    batches.close()


class Refuses(Dataset[int]):
    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> int:
        raise UserError("The shard is gone.\nPut it back.")


def test_a_users_mistake_in_a_worker_has_its_own_message() -> None:
    batches = restarting(DataLoader(Refuses()), [])
    with pytest.raises(UserError) as caught:
        next(batches)
    batches.close()
    assert str(caught.value) == "The shard is gone.\nPut it back."


def test_what_workers_did_at_their_start_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STARTED_AS", "0")
    loader = DataLoader(Seeds(), num_workers=1, worker_init_fn=started_as)
    prepare_workers(loader)
    assert [int(item) for item in loader] == [7, 7]


def test_a_loader_without_workers_is_left_alone() -> None:
    loader = DataLoader(Numbers(), num_workers=0)
    prepare_workers(loader)
    assert loader.worker_init_fn is None


@pytest.mark.parametrize(
    ("cores", "asked", "batches", "started"), [(2, 8, 5, 2), (8, 2, 5, 2), (8, 8, 3, 3), (8, 8, 1, 0), (8, 0, 5, 0)]
)
def test_no_more_workers_than_cores_or_batches(
    monkeypatch: pytest.MonkeyPatch, cores: int, asked: int, batches: int, started: int
) -> None:
    monkeypatch.setattr(module, "usable_cores", lambda: cores)
    monkeypatch.setattr(DataLoader, "check_worker_number_rationality", lambda loader: None)  # of the real cores
    loader = batch_loader(Numbers(), [[index] for index in range(batches)], list, num_workers=asked)
    assert loader.num_workers == started


def test_given_batches_are_loaded_in_order_without_global_randomness() -> None:
    before = torch.get_rng_state()
    loader = batch_loader(Numbers(), [[3, 1], range(5, 7)], list, num_workers=1)
    assert list(loader) == [[3, 1], [5, 6]]
    assert torch.equal(torch.get_rng_state(), before)

from typing import Any

import pytest
from torch.utils.data import Dataset

from evlvideo.experiments.sweep.table import Outcome
from evlvideo.inference.pipeline import batches_of, run_batches


class Items(Dataset[dict[str, Any]]):
    """Six clips; those named as bad cannot be decoded."""

    def __init__(self, *bad: int) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, Any]:
        content = {"bad": f"{index} is broken"} if index in self.bad else {"number": index}
        return {"clip_id": f"clip{index}", **content}


def numbers(items: list[dict[str, Any]]) -> list[int]:
    return [item["number"] for item in items]


def tenfold(batch: list[int]) -> list[int]:
    assert batch, "nothing is worked on for nothing"
    return [10 * number for number in batch]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_outcomes_come_batch_by_batch_in_order(num_workers: int) -> None:
    found = list(run_batches(Items(), batches_of(6, 4), tenfold, collate=numbers, num_workers=num_workers))
    assert [[outcome.result for outcome in batch] for batch in found] == [[0, 10, 20, 30], [40, 50]]


def test_bad_clips_are_named_beside_the_results_of_the_others() -> None:
    (found,) = run_batches(Items(1), [[0, 1, 2]], tenfold, collate=numbers, num_workers=0)
    assert found == [Outcome("clip0", 0, None), Outcome("clip1", None, "1 is broken"), Outcome("clip2", 20, None)]


def test_a_batch_of_bad_clips_is_not_worked_on() -> None:
    (found,) = run_batches(Items(0, 1), [[0, 1]], tenfold, collate=numbers, num_workers=0)
    assert [outcome.result for outcome in found] == [None, None]


def test_a_batch_is_worked_on_when_it_is_asked_for() -> None:
    worked_on: list[list[int]] = []

    def work(batch: list[int]) -> list[int]:
        worked_on.append(batch)
        return batch

    outcomes = run_batches(Items(), batches_of(6, 2), work, collate=numbers, num_workers=0)
    assert worked_on == []
    next(outcomes)
    assert worked_on == [[0, 1]]


def test_batches_are_consecutive_indices() -> None:
    assert batches_of(7, 3) == [range(3), range(3, 6), range(6, 7)]
    assert batches_of(0, 3) == []

"""Run a model over batches of clips, for captioning, feature extraction and baselines."""

import logging
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from torch.utils.data import Dataset

from evlvideo.data.loading.loader import RestartingBatches, batch_loader

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Batch = TypeVar("Batch")


class Outcome(NamedTuple, Generic[Result]):
    """The outcome for a clip."""

    clip_id: str
    result: Result | None
    """None if the clip could not be decoded."""
    bad: str | None
    """Why it could not be decoded."""


def batches_of(items: int, size: int) -> list[range]:
    """Cut a number of items into batches of consecutive indices; the last one may be smaller."""
    return [range(items)[first : first + size] for first in range(0, items, size)]


def run_batches(
    dataset: Dataset[dict[str, Any]],
    batches: Sequence[Sequence[int]],
    work: Callable[[Batch], Sequence[Result]],
    *,
    collate: Callable[[list[dict[str, Any]]], Batch],
    num_workers: int,
) -> Generator[list[Outcome[Result]]]:
    """Decode batches ahead in workers, and run a model on each.

    Args:
        dataset: items of one clip each, with a `clip_id`. Items with a `bad` (why it cannot be decoded) are left out.
        batches: indices of each batch.
        work: returns a result for each clip of a batch; not called if all of its clips are bad.
        collate: makes a batch of the good items, in a worker.
        num_workers: upper bound of processes that decode.

    Yields:
        for each batch, the outcome of each clip, in order.
    """

    def load(done: int) -> Iterable[tuple[list[tuple[str, str | None]], Any]]:
        return batch_loader(dataset, batches[done:], _Collator(collate), num_workers=num_workers)

    loaded = RestartingBatches(load(0), load, logger.warning)
    try:
        for clips, batch in loaded:
            results = iter(work(batch) if any(bad is None for _, bad in clips) else ())
            yield [Outcome(clip_id, next(results) if bad is None else None, bad) for clip_id, bad in clips]
    finally:
        loaded.close()


class _Collator:
    """Returns each clip's id and, if it is bad, why, with a batch of the good ones."""

    def __init__(self, collate: Callable[[list[dict[str, Any]]], Any]) -> None:
        self.collate = collate

    def __call__(self, items: list[dict[str, Any]]) -> tuple[list[tuple[str, str | None]], Any]:
        good = [item for item in items if "bad" not in item]
        return [(item["clip_id"], item.get("bad")) for item in items], self.collate(good) if good else None

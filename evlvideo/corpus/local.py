"""The engine for one machine: workers decode ahead, and the model captions batch by batch."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import Any

from torch.utils.data import Dataset

from evlvideo.corpus.output import Made
from evlvideo.corpus.rows import Row, Rows
from evlvideo.corpus.stages import Item, collate_items
from evlvideo.inference.captioning import gather_stream, share_of
from evlvideo.inference.pipeline import run_batches


class DecodedRows(Dataset[dict[str, Any]]):
    """Rows, each decoded when it is asked for.

    Args:
        rows: the rows.
        decode: see :class:`evlvideo.corpus.stages.DecodeRows`.
    """

    def __init__(self, rows: Rows, decode: Callable[[Sequence[Row]], Sequence[Item]]) -> None:
        self._rows, self._decode = rows, decode

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._rows)

    def __getitem__(self, number: int) -> Item:
        """Decode a row."""
        return self._decode([self._rows[number]])[0]


def caption_rows(
    rows: Rows,
    decode: Callable[[Sequence[Row]], Sequence[Item]],
    caption: Callable[[Mapping[str, Any]], Sequence[Made]],
    *,
    batch_size: int,
    num_workers: int,
) -> Generator[tuple[Row, Made]]:
    """Caption rows, and yield each as soon as its batch is done. Processes share the batches.

    Only a few batches are in memory, however many rows there are.

    Args:
        rows: the rows.
        decode: see :class:`evlvideo.corpus.stages.DecodeRows`.
        caption: see :class:`evlvideo.corpus.stages.CaptionBatches`.
        batch_size: rows captioned at once.
        num_workers: upper bound of processes that decode.

    Yields:
        what came out for each row, in their order, in every process.
    """
    dataset = DecodedRows(rows, decode)
    mine = run_batches(dataset, share_of(dataset, batch_size), caption, collate=collate_items, num_workers=num_workers)
    outcomes = gather_stream(mine, dataset, batch_size)
    with closing(mine):
        for row, outcome in zip(rows, outcomes, strict=True):
            yield row, Made(error=outcome.bad) if outcome.result is None else outcome.result

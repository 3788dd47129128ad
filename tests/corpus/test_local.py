"""The engine of one machine, with stages that stand in for decoding and captioning."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from evlvideo.corpus.local import caption_rows
from evlvideo.corpus.output import Made
from evlvideo.corpus.rows import Row, Rows
from evlvideo.corpus.stages import Item

ROWS = [Row(str(number), f"/{number}.mp4") for number in range(30)]


def caption(batch: Mapping[str, Any]) -> list[Made]:
    values = batch["pixel_values"].flatten().tolist()
    return [Made((f"text {value}",), (-1.0,), frames) for value, frames in zip(values, batch["frames"], strict=True)]


class Decode:
    """Frames that are the row's number; a note of each row; every tenth row is bad."""

    def __init__(self, note: Path) -> None:
        self.note = note

    def __call__(self, rows: Sequence[Row]) -> list[Item]:
        with self.note.open("a") as file:
            file.write("x" * len(rows))
        return [self.item(row) for row in rows]

    def item(self, row: Row) -> Item:
        if int(row.id) % 10 == 9:
            return {"clip_id": row.id, "bad": "broken"}
        return {"clip_id": row.id, "pixel_values": torch.tensor([int(row.id)], dtype=torch.uint8), "frames": 1}


class KilledOnce(Decode):
    """As above, but the system kills the process among the rows, once."""

    def item(self, row: Row) -> Item:
        killed = self.note.with_name("killed")
        if row.id == "11" and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().item(row)


def expected() -> list[tuple[Row, Made]]:
    return [
        (row, Made(error="broken") if int(row.id) % 10 == 9 else Made((f"text {row.id}",), (-1.0,), 1)) for row in ROWS
    ]


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_rows_come_out_in_their_order_with_their_errors(tmp_path: Path, num_workers: int) -> None:
    made = caption_rows(Rows.of(ROWS), Decode(tmp_path / "n"), caption, batch_size=4, num_workers=num_workers)
    assert list(made) == expected()


def test_a_worker_that_is_killed_costs_no_row(tmp_path: Path) -> None:
    made = caption_rows(Rows.of(ROWS), KilledOnce(tmp_path / "n"), caption, batch_size=4, num_workers=2)
    assert list(made) == expected()
    assert (tmp_path / "killed").exists()


def test_only_a_few_batches_are_decoded_ahead(tmp_path: Path) -> None:
    decode = Decode(tmp_path / "note")
    made = caption_rows(Rows.of(ROWS), decode, caption, batch_size=2, num_workers=1)
    next(made)
    time.sleep(1)
    assert decode.note.stat().st_size <= 2 * 4
    made.close()

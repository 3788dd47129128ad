import pickle
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from evlvideo.data.captioned import CaptionedClip
from evlvideo.data.clip_table import ClipTable

CLIPS = [
    CaptionedClip("a", Path("/data/x/a.mp4"), ("one", "zwei, äöü")),
    CaptionedClip("b", Path("/data/y/b.mp4"), ("three",), category=0, evidence="one_frame"),
    CaptionedClip("ü", Path("c.mp4"), ("", "\ud800", "six"), start_seconds=0.0, end_seconds=2.5),
]


def test_clips_come_back_as_they_were() -> None:
    table = ClipTable(iter(CLIPS))
    assert list(table) == CLIPS
    assert table[-1] == CLIPS[2]
    assert table[1:] == CLIPS[1:]


@pytest.mark.parametrize("number", [3, -4])
def test_numbers_end_with_the_table(number: int) -> None:
    with pytest.raises(IndexError, match="the table has 3 clips"):
        ClipTable(CLIPS)[number]


def test_an_empty_table_has_no_clips() -> None:
    assert list(ClipTable([])) == []


def test_captions_are_counted() -> None:
    assert list(ClipTable(CLIPS).caption_ends()) == [2, 3, 6]


def test_workers_get_a_copy() -> None:
    assert list(pickle.loads(pickle.dumps(ClipTable(CLIPS)))) == CLIPS


def test_a_clip_takes_little_more_than_its_strings() -> None:
    def clips() -> Iterator[CaptionedClip]:
        for number in range(10_000):
            folder = Path(f"/data/webvid/videos/{number // 50:06d}")
            yield CaptionedClip(str(number), folder / f"{number}.mp4", (f"{number} " + "a word " * 10,))

    tracemalloc.start()
    table = ClipTable(clips())
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(table) == 10_000
    assert held / len(table) < 180

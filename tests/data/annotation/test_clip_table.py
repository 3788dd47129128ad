import pickle
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.clip_table import ClipTable

CLIPS = [
    CaptionedClip("a", Path("/data/x/a.mp4"), ("one", "zwei, äöü")),
    CaptionedClip("b", Path("/data/y/b.mp4"), ("three",), category=0, evidence="one_frame"),
    CaptionedClip("ü", Path("c.mp4"), ("", "\ud800", "six"), start_seconds=0.0, end_seconds=2.5),
    CaptionedClip("d", Path("../data/x/d.mp4"), (), category=-3, evidence="one_frame", end_seconds=1.0),
]


@pytest.fixture(params=["built", "opened", "copied", "opened and copied", "viewed"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> ClipTable:
    if request.param == "viewed":
        return ClipTable([CLIPS[1], *CLIPS])[1:]
    table = ClipTable(iter(CLIPS))
    if request.param.startswith("opened"):
        table.save(tmp_path / "clips.safetensors", {})
        table, _ = ClipTable.open(tmp_path / "clips.safetensors")
    return pickle.loads(pickle.dumps(table)) if request.param.endswith("copied") else table


def test_clips_come_back_as_they_were(table: ClipTable) -> None:
    assert list(table) == CLIPS
    assert [table[number] for number in range(4)] == CLIPS
    assert table[-1] == CLIPS[3]


@pytest.mark.parametrize("number", [4, -5])
def test_numbers_end_with_the_table(table: ClipTable, number: int) -> None:
    with pytest.raises(IndexError, match="the table has 4 clips"):
        table[number]


@pytest.mark.parametrize("part", [slice(1, None), slice(2), slice(None, None, -2), slice(9, 12), slice(-2, None)])
def test_slices_are_tables(table: ClipTable, part: slice) -> None:
    assert isinstance(table[part], ClipTable)
    assert list(table[part]) == CLIPS[part]
    assert list(pickle.loads(pickle.dumps(table[part]))) == CLIPS[part]


def test_slices_copy_no_strings() -> None:
    table = ClipTable(CaptionedClip(str(number), Path(f"{number}.mp4"), ("a word " * 50,)) for number in range(1000))
    tracemalloc.start()
    views = [table[:500] for _ in range(10)]
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(views[0]) == 500
    assert held < 10 * 500 * 20


def test_clips_are_chosen_by_their_numbers(table: ClipTable) -> None:
    chosen = table.take(np.array([3, 0, 2]))
    assert list(chosen) == [CLIPS[3], CLIPS[0], CLIPS[2]]
    assert list(chosen[1:]) == [CLIPS[0], CLIPS[2]]
    assert chosen.caption_counts().tolist() == [0, 2, 3]


def test_an_empty_table_has_no_clips(tmp_path: Path) -> None:
    assert list(ClipTable()) == []
    assert list(ClipTable().caption_ends()) == []
    ClipTable().save(tmp_path / "none", {})
    assert list(ClipTable.open(tmp_path / "none")[0]) == []


def test_captions_are_counted(table: ClipTable) -> None:
    assert list(table.caption_ends()) == [2, 3, 6, 6]
    assert table.caption_counts().tolist() == [2, 1, 3, 0]


def test_captions_are_found_by_their_place(table: ClipTable) -> None:
    assert [table.find_caption(place) for place in range(6)] == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)]
    assert [table[2:].find_caption(place) for place in range(3)] == [(0, 0), (0, 1), (0, 2)]


def test_files_are_folders_and_names(table: ClipTable) -> None:
    folders = [table.folders[number] for number in table.folder_numbers()]
    assert [Path(folder, table.file_name(number)) for number, folder in enumerate(folders)] == [
        clip.video for clip in CLIPS
    ]


def test_a_file_has_what_it_was_written_with(tmp_path: Path) -> None:
    ClipTable(CLIPS).save(tmp_path / "clips", {"of": "x"})
    assert ClipTable.open(tmp_path / "clips")[1] == {"of": "x"}


@pytest.mark.parametrize("content", [b"", b"no table of clips at all", b"\x02" + bytes(7) + b"{}"])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "clips").write_bytes(content)
    with pytest.raises(ValueError, match="is not a table of clips"):
        ClipTable.open(tmp_path / "clips")


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    ClipTable(CLIPS).save(tmp_path / "clips", {})
    (tmp_path / "clips").write_bytes((tmp_path / "clips").read_bytes()[:-1])
    with pytest.raises(ValueError, match="is not a table of clips"):
        ClipTable.open(tmp_path / "clips")


def test_a_file_is_copied_by_its_name(tmp_path: Path) -> None:
    ClipTable(CaptionedClip(str(number), Path("a.mp4"), ("a word " * 50,)) for number in range(1000)).save(
        tmp_path / "clips", {}
    )
    table, _ = ClipTable.open(tmp_path / "clips")
    assert len(pickle.dumps(table)) < 1000


def test_a_clip_takes_little_more_than_its_strings() -> None:
    def clips() -> Iterator[CaptionedClip]:
        for number in range(10_000):
            folder = Path(f"/data/webvid/videos/{number // 50:06d}")
            yield CaptionedClip(str(number), folder / f"{number}.mp4", (f"{number} " + "a word " * 10,))

    tracemalloc.start()
    table = ClipTable(clips())
    # Not of paths, whose names Python keeps in a table of all names that it has ever seen.
    ours = [tracemalloc.Filter(True, f"*/annotation/{name}.py") for name in ("clip_table", "packed_strings")]
    kept = tracemalloc.take_snapshot().filter_traces(ours)
    tracemalloc.stop()
    assert len(table) == 10_000
    assert 100 < sum(trace.size for trace in kept.traces) / len(table) < 160

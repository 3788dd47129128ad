"""Rows are read from files, folders, tables and shards; what cannot be read is one sentence."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from tiny_shards import picture, write_shard

from evlvideo.corpus.rows import Row, row_id
from evlvideo.corpus.sources import read_sources
from evlvideo.errors import UserError

ENTRIES: list[dict[str, Any]] = [
    {"path": "a.mp4", "id": "first", "start": 1.5, "end": 3.0, "other": "x"},
    {"path": "more/./b.mp4", "id": "second", "start": None, "end": 2.0, "other": "y"},
    {"path": "/far/c.mp4", "id": None, "start": None, "end": None, "other": "z"},
]


def write_csv(path: Path, entries: list[dict[str, Any]]) -> None:
    values = [["" if value is None else str(value) for value in entry.values()] for entry in entries]
    path.write_text("\n".join(",".join(line) for line in [list(entries[0]), *values]) + "\n")


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], object]] = {
    ".parquet": lambda path, entries: parquet.write_table(pa.Table.from_pylist(entries), path),
    ".csv": write_csv,
    ".jsonl": lambda path, entries: path.write_text("".join(json.dumps(entry) + "\n" for entry in entries)),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    for name in ("b.mp4", "a.mp4", "more/c.JPG", ".hidden.mp4", "notes.md"):
        (tmp_path / name).touch()
    return tmp_path


def test_folders_and_files_give_each_file_once(folder: Path) -> None:
    rows = list(read_sources([folder / "b.mp4", folder, folder / "more"]))
    names = ["b.mp4", "a.mp4", "more/c.JPG"]
    assert rows == [Row(row_id(str(folder / name)), str(folder / name)) for name in names]


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_table_names_files_ids_and_times(folder: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    WRITERS[suffix](folder / f"table{suffix}", ENTRIES)
    monkeypatch.chdir(folder)
    assert list(read_sources([Path(f"table{suffix}")])) == [
        Row("first", str(folder / "a.mp4"), 1.5, 3.0),
        Row("second", str(folder / "more/b.mp4"), None, 2.0),
        Row(row_id("/far/c.mp4"), "/far/c.mp4"),
    ]


@pytest.mark.parametrize(
    "name", ["a.mp4", "x/y z/ü.mp4", "x/./a", "./a", "x//a", "x/.hidden/a", "x/..a", "a/b:c", "a b", "x/../b"]
)
def test_a_path_is_under_the_tables_folder(folder: Path, name: str) -> None:
    WRITERS[".parquet"](folder / "table.parquet", [{"path": name}])
    assert [row.path for row in read_sources([folder / "table.parquet"])] == [os.path.normpath(folder / name)]


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_table_of_paths_alone_will_do(folder: Path, suffix: str) -> None:
    WRITERS[suffix](folder / f"table{suffix}", [{"path": "a.mp4"}, {"path": "b.mp4"}])
    assert list(read_sources([folder / f"table{suffix}", folder / "a.mp4"])) == list(
        read_sources([folder / "a.mp4", folder / "b.mp4"])
    )


def test_the_members_of_a_shard_are_rows(folder: Path) -> None:
    shard = write_shard(folder / "0.tar", {"x/1.png": picture(1), "x/1.txt": b"text", "x/2.png": picture(2)})
    assert [row.path for row in read_sources([shard])] == [f"{shard}::x/1.png", f"{shard}::x/2.png"]


def test_a_name_that_is_no_text_is_a_row_with_escapes(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder / "more") + b"/\xff.mp4")).touch()
    rows = list(read_sources([folder / "more"]))
    assert [Path(row.path).name for row in rows] == ["c.JPG", "\\udcff.mp4"]
    assert rows[1].id != row_id(rows[1].path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"path": "  "}, "the path is"),
        ({"path": "../a.mp4"}, r"the file '../a.mp4' lies outside"),
        ({"path": "s3://bucket/a.mp4"}, r"the path .* is an address; get the file"),
        ({"path": "a.mp4", "start": -1}, "the start is '?-1'?; times are seconds, from 0"),
        ({"path": "a.mp4", "end": "soon"}, "the end is 'soon'; times are seconds, from 0"),
        ({"path": "a.mp4", "start": 3, "end": 3}, "the end is 3 s, which is not after the start"),
        ({"path": "a.mp4", "id": "a\x07b"}, "the row id is 'a"),
    ],
)
@pytest.mark.parametrize("suffix", WRITERS)
def test_a_bad_row_is_one_sentence_with_its_place(
    folder: Path, suffix: str, entry: dict[str, Any], message: str
) -> None:
    WRITERS[suffix](folder / f"table{suffix}", [entry])
    with pytest.raises(UserError, match=rf"table{suffix}, (row|line) [12]: {message}"):
        read_sources([folder / f"table{suffix}"])


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_table_without_paths_is_refused(folder: Path, suffix: str) -> None:
    WRITERS[suffix](folder / f"table{suffix}", [{"file": "a.mp4"}])
    with pytest.raises(UserError, match=r"has no (column )?path"):
        read_sources([folder / f"table{suffix}"])


def test_a_row_twice_in_a_table_is_refused(folder: Path) -> None:
    write_csv(folder / "table.csv", [{"path": "a.mp4"}, {"path": "a.mp4"}])
    with pytest.raises(UserError, match=r"stands for several rows: .*a.mp4, .*a.mp4. Each row comes out once"):
        read_sources([folder / "table.csv"])


def test_an_id_of_two_sources_is_refused(folder: Path) -> None:
    for name, path in (("one", "a.mp4"), ("two", "b.mp4")):
        write_csv(folder / f"{name}.csv", [{"path": path, "id": "same"}])
    with pytest.raises(UserError, match=r"The id 'same' stands for several rows: .*a.mp4 and .*b.mp4"):
        read_sources([folder / "one.csv", folder / "two.csv"])


def test_what_is_empty_missing_or_broken_is_refused(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "empty.csv").write_text("path\n")
    for name in ("broken.parquet", "broken.tar"):
        (folder / name).write_bytes(b"nothing")
    for source, message in {
        "empty": r"empty holds no videos or images; files with these endings are looked for",
        "empty.csv": "empty.csv has no rows; write one for each file",
        "missing": "1 of 1 sources do not exist: .*missing",
        "broken.parquet": "broken.parquet cannot be read as Parquet",
        "broken.tar": "broken.tar cannot be read as an uncompressed tar file",
    }.items():
        with pytest.raises(UserError, match=message):
            read_sources([folder / source])
    with pytest.raises(UserError, match="Nothing was given; name files, folders, tables or tar shards"):
        read_sources([])

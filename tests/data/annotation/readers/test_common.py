import os
from pathlib import Path
from typing import Any

import pytest

from evlvideo.data.annotation.readers.common import (
    all_captions,
    clip_name,
    find_file,
    media_file,
    read_json_lines,
    read_lines,
    read_table,
    seconds,
    shown,
)
from evlvideo.errors import UserError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


def test_lines_lose_byte_order_mark_and_their_ends(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfa\r\nb\n\r\n\xc3\xa9")
    assert list(read_lines(file)) == [(1, "a"), (2, "b"), (3, ""), (4, "é")]


def test_a_line_that_is_not_utf8_is_named(file: Path) -> None:
    file.write_bytes(b"good\ncaf\xe9\n")
    with pytest.raises(UserError, match=r"file, line 2 is not UTF-8 .* at byte 3 of the line.*iconv"):
        list(read_lines(file))


def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        list(read_lines(file))


def test_json_lines_have_places(file: Path) -> None:
    file.write_text('{"a": 1}\n\n  \n{"a": 2}\n')
    assert list(read_json_lines(file)) == [(f"{file}, line 1", {"a": 1}), (f"{file}, line 4", {"a": 2})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", r"line 2 holds \[1\]; write one JSON object a line"),
        ("7" * 5000, "line 2 is not JSON: Exceeds the limit"),
        ("[" * 100_000, "line 2 is not JSON: maximum recursion"),
    ],
)
def test_lines_that_are_no_objects_are_refused(file: Path, line: str, message: str) -> None:
    file.write_text("{}\n" + line)
    with pytest.raises(UserError, match=message):
        list(read_json_lines(file))


def test_a_table_gives_the_columns_asked_for(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbfx,y,z\r\n1,"two, with\nan end",3\r\n\r\n4,5,6\r\n')
    rows = list(read_table(file, ("z", "y"), optional=("w",)))
    assert rows == [(f"{file}, line 3", ["3", "two, with\nan end", ""]), (f"{file}, line 5", ["6", "5", ""])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no column a, b; its header is ''"),
        ("a\n", "has no column b; its header is 'a'"),
        ("a,b\n1\n", "line 2: 1 values for 2 columns"),
        ("a,b\n1,2,3\n", "line 2: 3 values for 2 columns; quote values that hold commas"),
        ("a,b\n1," + "x" * 200_000 + "\n", "line 2: field larger than field limit"),
    ],
)
def test_malformed_tables_are_refused(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        list(read_table(file, ("a", "b")))


@pytest.mark.parametrize(("value", "name"), [("video1", "video1"), (7, "7"), (10**30, "1" + "0" * 30), ("ü/1", "ü/1")])
def test_ids_become_strings(value: Any, name: str) -> None:
    assert clip_name("here", value) == name


@pytest.mark.parametrize("value", ["", " ", "a\nb", "a\x00", None, True, 1.5, [1]])
def test_odd_ids_are_refused(value: Any) -> None:
    with pytest.raises(UserError, match=r"^here: the clip id is"):
        clip_name("here", value)


@pytest.mark.parametrize(("value", "captions"), [("a dog", ("a dog",)), (["a", "b"], ("a", "b"))])
def test_captions_are_one_or_several(value: Any, captions: tuple[str, ...]) -> None:
    assert all_captions("here", value) == captions


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "has no captions"),
        (["a", " \t"], "a caption is empty"),
        ("", "a caption is empty"),
        (None, "a caption is None"),
        ([["a"]], r"a caption is \['a'\]"),
    ],
)
def test_captions_that_say_nothing_are_refused(value: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^here:? {message}"):
        all_captions("here", value)


def test_names_are_joined_to_the_root(tmp_path: Path) -> None:
    assert media_file("here", tmp_path, "a/../b/c.mp4") == tmp_path / "b" / "c.mp4"


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a/../../x", "..", "a/../..", "x\x00.mp4", "a\x00/b"], ids=repr
)
def test_names_stay_under_the_root(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"^here: the file .* lies outside"):
        media_file("here", tmp_path, name)


@pytest.mark.parametrize("root", [".", "..", "", "a/.."])
def test_names_stay_under_relative_roots(root: str) -> None:
    assert media_file("here", Path(root), "b/c.mp4") == Path(os.path.normpath(root or "."), "b/c.mp4")
    for name in ("../x.mp4", "../../etc/passwd", "b/../../x.mp4", ".."):
        with pytest.raises(UserError, match="lies outside"):
            media_file("here", Path(root), name)


@pytest.mark.parametrize("name", ["", " ", None, 7, ["a"]])
def test_files_need_a_name(tmp_path: Path, name: Any) -> None:
    with pytest.raises(UserError, match=r"^here: the file is .*; name one, relative to"):
        media_file("here", tmp_path, name)


def test_times_are_numbers_or_left_out() -> None:
    assert seconds("here", {"start_seconds": 1, "end_seconds": 2.5}) == (1.0, 2.5)
    assert seconds("here", {"end_seconds": 3}) == (None, 3.0)
    assert seconds("here", {}) == (None, None)


@pytest.mark.parametrize("time", [-1, "3", True, float("nan"), float("inf"), 10**400, []])
def test_times_that_are_no_times_are_refused(time: Any) -> None:
    with pytest.raises(UserError, match=r"^here: a time is"):
        seconds("here", {"start_seconds": time})


@pytest.mark.parametrize("entry", [{"start_seconds": 2, "end_seconds": 2}, {"end_seconds": 0}])
def test_clips_end_after_their_start(entry: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^here: the clip ends at .* not after its start"):
        seconds("here", entry)


def test_files_are_found_by_their_first_name(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "b").touch()
    assert find_file(tmp_path, "a", "b") == tmp_path / "annotations" / "b"
    with pytest.raises(UserError, match="There is no c or d in"):
        find_file(tmp_path, "c", "d")


def test_long_values_are_cut() -> None:
    assert len(shown("x" * 1000)) < 100

import os
from pathlib import Path
from typing import Any

import pytest

from evlvideo.data.annotation.readers.fields import all_captions, clip_name, media_file, seconds
from evlvideo.errors import UserError


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

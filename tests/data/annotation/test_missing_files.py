import itertools
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evlvideo.data.annotation import missing_files as missing_files_module
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.annotation.missing_files import missing_files, some_missing


def table(*videos: Path) -> ClipTable:
    return ClipTable(CaptionedClip(str(number), video, ("a",)) for number, video in enumerate(videos))


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    """Sixty files in two folders, in turns."""
    found = [tmp_path / "ab"[number % 2] / f"{number}.mp4" for number in range(60)]
    for video in found:
        video.parent.mkdir(exist_ok=True)
        video.touch()
    return found


def test_nothing_is_missing(videos: list[Path]) -> None:
    assert missing_files(table(*videos)) == []
    assert missing_files(table()) == []


@pytest.mark.parametrize("listed_from", [1, 16, 1000])
def test_what_is_missing_is_named_in_order(
    videos: list[Path], listed_from: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missing_files_module, "_LISTED_FROM", listed_from)
    for number in (41, 3, 8):
        videos[number].unlink()
    assert missing_files(table(*videos)) == [3, 8, 41]
    assert missing_files(table(*videos)[1::2]) == [1, 20]


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    assert missing_files(table(*(tmp_path / "none" / f"{number}.mp4" for number in range(20)))) == list(range(20))


def test_links_have_to_lead_somewhere(videos: list[Path], tmp_path: Path) -> None:
    for number, target in ((4, tmp_path / "nowhere"), (6, videos[8])):
        videos[number].unlink()
        videos[number].symlink_to(target)
    assert missing_files(table(*videos)) == [4]


def test_names_that_no_file_can_have_are_missing(videos: list[Path], tmp_path: Path) -> None:
    odd = [tmp_path / "a" / ("x" * 5000), tmp_path / "a" / "x\0y"]
    assert missing_files(table(*videos, *odd)) == [60, 61]


def test_two_clips_may_share_a_file(videos: list[Path]) -> None:
    assert missing_files(table(*videos, *videos)) == []


def test_paths_may_be_relative(videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path / "a")
    assert missing_files(table(*(Path(f"{number}.mp4") for number in range(0, 60, 2)), Path("none.mp4"))) == [30]


def test_a_folder_is_listed_once_for_all_of_its_files(videos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[Any] = []
    asked: list[Any] = []
    scan, exists = os.scandir, os.path.exists
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scan(path))  # type: ignore[func-returns-value]
    monkeypatch.setattr(os.path, "exists", lambda path: asked.append(path) or exists(path))  # type: ignore[func-returns-value]
    assert missing_files(table(*videos)) == []
    assert (len(listed), len(asked)) == (2, 0)


def test_a_few_files_of_a_large_folder_are_asked_for(videos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1000):
        (videos[0].parent / f"other{number}").touch()
    read: list[Any] = []
    original = itertools.islice

    def note(entries: Iterator[Any], most: int) -> Iterator[Any]:
        for entry in original(entries, most):
            read.append(entry)
            yield entry

    monkeypatch.setattr(missing_files_module, "islice", note)
    assert missing_files(table(*videos[::2])) == []
    assert len(read) == 8 * 30


@pytest.mark.parametrize(
    ("wanted", "there"),
    [
        ("caf\u00e9.mp4", "cafe\u0301.mp4"),
        ("a/caf\u00e9/x.mp4", "a/cafe\u0301/x.mp4"),
        ("a\\x.mp4", "a/x.mp4"),
        ("a/x.mp4", "A/x.MP4"),
    ],
)
def test_a_name_of_another_form_is_shown(tmp_path: Path, wanted: str, there: str) -> None:
    file = tmp_path / there
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    assert some_missing(tmp_path, [wanted, "none.mp4"]) == (
        f"{wanted} (on disk {there!a}, in the annotation {wanted!a}), none.mp4"
    )


def test_forms_that_are_the_same_are_not_looked_for(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFC", "caf\u00e9.mp4")
    assert some_missing(tmp_path / "gone", [name, "../x", "a\0b"]) == f"{name}, ../x, a\0b"

import os
import shutil
from pathlib import Path

import pytest

from evlvideo.data.media import file_identity
from evlvideo.data.media.file_identity import identify, identify_all


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(os.urandom(100_000))
    return path


def test_a_copy_is_the_same_file(file: Path, tmp_path: Path) -> None:
    shutil.copyfile(file, tmp_path / "copy.mp4")
    os.utime(tmp_path / "copy.mp4", (0, 0))
    assert identify(tmp_path / "copy.mp4") == identify(file) != 0


@pytest.mark.parametrize("place", [0, 50_000, -1])
def test_another_beginning_middle_or_end_is_another_file(file: Path, place: int) -> None:
    before = identify(file)
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    assert identify(file) != before


def test_a_file_that_was_cut_off_is_another(file: Path) -> None:
    before = identify(file)
    os.truncate(file, 99_999)
    assert identify(file) != before


def test_a_small_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"ab")
    (tmp_path / "other").write_bytes(b"ac")
    assert identify(tmp_path / "one") != identify(tmp_path / "other")


@pytest.mark.parametrize("name", ["missing.mp4", "empty.mp4", "directory"])
def test_what_is_no_file_or_empty_is_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "directory").mkdir()
    assert identify(tmp_path / name) == 0


def test_many_files_are_identified_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_identity, "_AT_ONCE", 4)
    paths = [tmp_path / str(number) for number in range(10)]
    for path in paths:
        path.write_text(path.name)
    assert identify_all(iter(paths), len(paths)).tolist() == [identify(path) for path in paths]

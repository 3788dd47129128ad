import errno
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from evlvideo.errors import UserError
from evlvideo.files import (
    A_DAY,
    inside,
    new_directory,
    parse_json,
    read_json,
    remove_leftovers,
    replacing,
    write_json,
    write_text,
)


def test_text_is_written_as_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "σ = 6\n")
    assert (tmp_path / "a.txt").read_bytes() == "σ = 6\n".encode()


def test_parent_directories_are_made(tmp_path: Path) -> None:
    write_text(tmp_path / "a/b/c.txt", "x")
    assert (tmp_path / "a/b/c.txt").read_text() == "x"


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "a longer old text")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(RuntimeError), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_failure_leaves_no_new_file(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_no_new_file(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_old_file_stands_while_the_new_one_is_written(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"


def test_the_temporary_file_lies_beside_the_file_and_has_its_suffix(tmp_path: Path) -> None:
    """Renaming is atomic within a file system only, and encoders choose their format by suffix."""
    with replacing(tmp_path / "a.mp4") as temporary:
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".mp4")


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(UserError, match=r"a\.txt cannot be written"):
        write_text(tmp_path / "file/a.txt", "x")


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_files_have_ordinary_permissions(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"caption": "a dog – running", "scores": [0.1, 1e-17, None]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value


def test_a_missing_json_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json cannot be read"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe", b"{'a': 1}"])
def test_a_file_that_is_not_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.json is not a JSON file"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("half", ["\\ud83d", "\\uDE00", "\\ud83d\\ud83d", "\\\\\\uD83D", "\\ude00\\ud83d"])
def test_half_a_character_is_named_with_its_line(tmp_path: Path, half: str) -> None:
    (tmp_path / "a.json").write_text(f'{{"a":\n "b{half}"}}')
    with pytest.raises(UserError, match=r"is half of a character: line 2 column"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("text", "value"), [("\\ud83d\\ude00", "\U0001f600"), ("\\\\ud83d", "\\ud83d"), ("\\uD7FF\\n", "\ud7ff\n")]
)
def test_whole_characters_are_read(text: str, value: str) -> None:
    assert parse_json(f'"{text}"') == value


@pytest.mark.parametrize("name", ["video1.mp4", "a/b.mp4", "a/../b.mp4", "./b.mp4", "..b.mp4"])
def test_names_under_the_root_are_joined(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name).is_relative_to(tmp_path)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "..", "a\0b", "../root-with-a-longer-name/x"])
def test_names_that_lead_out_of_the_root_are_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(UserError) as raised:
        inside(root, name)
    assert repr(name) in str(raised.value)


@pytest.mark.parametrize("root", [".", "", "sub/.."])
def test_relative_roots_confine_names_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert inside(Path(root), "a.mp4") == Path(root, "a.mp4") or root == "sub/.."
    with pytest.raises(UserError):
        inside(Path(root), "../a.mp4")


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 200_000])
def test_json_beyond_the_readers_limits_is_a_user_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match="is not a JSON file"):
        read_json(tmp_path / "a.json")


def test_json_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json") == [1]


def test_links_under_the_root_are_the_users_own_and_followed(tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "x.mp4").write_text("clip")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "pool", target_is_directory=True)
    assert inside(root, "link/x.mp4").read_text() == "clip"


# What killed writers leave


KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from evlvideo.files import new_directory, replacing
path = Path(sys.argv[1])
with replacing(path / "weights.pth") as temporary, replacing(path / "name"), new_directory(path / "out.v2") as made:
    temporary.write_bytes(bytes(1000))
    (made / "model.safetensors").write_bytes(bytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)
"""
OTHERS = (
    ".tmp",
    ".tmpdir",
    ".tmp-abcdef",
    ".hidden.yaml",
    ".config.yaml.swp",
    ".a.json.12345678.yaml",
    "tmpAbCdEf",
    ".env",
)


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A directory with what a killed writer left, with a file of safetensors', and with others' files."""
    subprocess.run([sys.executable, "-c", KILLED_WRITER, str(tmp_path)], cwd=Path(__file__).parents[1], check=False)
    for name in (".tmpAbC123", *OTHERS):
        (tmp_path / name).touch()
    (tmp_path / ".tmpLinked").symlink_to(tmp_path / ".env")
    assert len(list(tmp_path.iterdir())) == 4 + len(OTHERS) + 1
    return tmp_path


def test_unfinished_files_are_removed_and_others_stay(killed: Path) -> None:
    removed = remove_leftovers(killed)
    assert sorted(path.name[:6] for path in removed) == [".name.", ".tmpAb", ".weigh"]
    left = {path.name for path in killed.iterdir() if not path.name.startswith(".out.v2.")}
    assert left == {*OTHERS, ".tmpLinked"}


def test_those_that_may_still_be_written_stay(killed: Path) -> None:
    assert remove_leftovers(killed, untouched_seconds=60) == []


def test_a_new_directory_removes_what_was_left_of_it_long_ago(killed: Path) -> None:
    (unfinished,) = killed.glob(".out.v2.*")
    for age in (A_DAY / 2, 2 * A_DAY):
        with new_directory(killed / "out.v2") as made:
            assert made.is_dir()
        assert (killed / "out.v2").is_dir()
        (killed / "out.v2").rmdir()
        assert unfinished.exists() == (age < A_DAY)
        for path in (unfinished / "model.safetensors", unfinished) if age < A_DAY else ():
            os.utime(path, (time.time() - 2 * A_DAY,) * 2)


def test_a_directory_that_is_not_there_has_no_leftovers(tmp_path: Path) -> None:
    assert remove_leftovers(tmp_path / "none") == []


@pytest.mark.parametrize("write", [replacing, new_directory])
def test_a_full_disk_is_a_sentence(write: Callable[[Path], AbstractContextManager[Path]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path}/a cannot be written: No space left"), write(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []

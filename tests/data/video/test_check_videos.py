import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from evlvideo.data.video import check as module
from evlvideo.data.video.check import PROGRESS_NAME, QUARANTINE_NAME, Checked, check_videos
from evlvideo.errors import UserError


@pytest.fixture
def root(clip: Path, tmp_path: Path) -> Path:
    """A collection of two good videos, an image, three bad files, and what is no video."""
    root = tmp_path / "videos"
    (root / "more").mkdir(parents=True)
    content = clip.read_bytes()
    (root / "a.mp4").write_bytes(content)
    (root / "more" / "b.MP4").write_bytes(content)
    (root / "cut.mp4").write_bytes(content[: len(content) // 2])
    (root / "empty.mkv").touch()
    (root / "text.webm").write_text("404 Not Found")
    (root / "notes.txt").write_text("not a video by its name")
    (root / ".a.mp4.part.mp4").write_text("hidden")
    Image.new("RGB", (8, 8)).save(root / "picture.png")
    return root


BAD = ["cut.mp4", "empty.mkv", "text.webm"]


def quarantined(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / QUARANTINE_NAME).read_text().splitlines()]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded."""
    names: list[str] = []
    check = module._check

    def noting(helper: Any, root: Path, state: Checked, limit: float) -> Checked:
        names.append(state.path)
        return check(helper, root, state, limit)

    monkeypatch.setattr(module, "_check", noting)
    return names


@pytest.mark.parametrize(("frames", "processes"), [(None, 1), (3, 2)])
def test_every_file_is_decoded(root: Path, tmp_path: Path, frames: int | None, processes: int) -> None:
    report = check_videos(root, tmp_path / "out", frames=frames, processes=processes)
    assert [(file.path, file.frames) for file in report.files if file.reason is None] == [
        ("a.mp4", 24),
        ("picture.png", 1),
        ("more/b.MP4", 24),
    ]
    assert [file.path for file in report.bad] == BAD


def test_bad_files_are_listed_with_reason_size_and_time(root: Path, tmp_path: Path) -> None:
    check_videos(root, tmp_path / "out")
    entries = quarantined(tmp_path / "out")
    assert [entry["path"] for entry in entries] == BAD
    assert "is an empty file" in entries[1]["reason"]
    assert entries[2] == {
        "root": str(root.resolve()),
        "path": "text.webm",
        "reason": entries[2]["reason"],
        "size": 13,
        "mtime": (root / "text.webm").stat().st_mtime_ns,
    }


def test_files_of_every_format_that_is_decoded_are_checked(tmp_path: Path) -> None:
    names = ["a.AVIF", "a.apng", "a.divx", "a.heic", "a.jp2", "a.m2v", "a.mjpeg", "a.mkv", "a.mxf", "a.rmvb", "a.y4m"]
    for name in [*names, "a.m3u8", "a.ffconcat", "a.txt", "a.json", "a.srt"]:
        (tmp_path / name).touch()
    assert [path.name for path in module.media_files(tmp_path)] == names


def test_a_second_check_decodes_nothing(root: Path, tmp_path: Path, checked: list[str]) -> None:
    first = check_videos(root, tmp_path / "out")
    assert len(checked) == 6
    assert check_videos(root, tmp_path / "out") == first
    assert len(checked) == 6


def test_a_file_that_changed_is_checked_again(root: Path, tmp_path: Path, checked: list[str]) -> None:
    check_videos(root, tmp_path / "out")
    checked.clear()
    (root / "cut.mp4").write_bytes((root / "a.mp4").read_bytes())
    os.utime(root / "more" / "b.MP4", (1, 1))
    report = check_videos(root, tmp_path / "out")
    assert sorted(checked) == ["cut.mp4", "more/b.MP4"]
    assert [file.path for file in report.bad] == BAD[1:]
    assert [entry["path"] for entry in quarantined(tmp_path / "out")] == BAD[1:]


def test_a_more_thorough_check_starts_anew(root: Path, tmp_path: Path, checked: list[str]) -> None:
    check_videos(root, tmp_path / "out", frames=2)
    checked.clear()
    check_videos(root, tmp_path / "out")
    assert len(checked) == 6


def test_a_removed_file_leaves_the_list(root: Path, tmp_path: Path) -> None:
    check_videos(root, tmp_path / "out")
    (root / "empty.mkv").unlink()
    check_videos(root, tmp_path / "out")
    assert [entry["path"] for entry in quarantined(tmp_path / "out")] == ["cut.mp4", "text.webm"]


def test_a_line_that_was_not_finished_is_checked_again(root: Path, tmp_path: Path, checked: list[str]) -> None:
    out = tmp_path / "out"
    check_videos(root, out)
    content = (out / PROGRESS_NAME).read_bytes()
    last = json.loads(content.splitlines()[-1])["path"]
    (out / PROGRESS_NAME).write_bytes(content[:-20])
    checked.clear()
    check_videos(root, out)
    assert checked == [last]
    checked.clear()
    check_videos(root, out)
    assert checked == []


PROGRAM = """
import sys, time
from pathlib import Path
from evlvideo.data.video import check as module
check = module._check
def slowly(*arguments):
    time.sleep(0.3)
    return check(*arguments)
module._check = slowly
module.check_videos(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_check_that_was_killed_goes_on(root: Path, tmp_path: Path, checked: list[str]) -> None:
    out = tmp_path / "out"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(root), str(out)], env=environment)
    progress = out / PROGRESS_NAME
    for _ in range(300):
        if progress.is_file() and progress.read_text().count("\n") >= 2:
            break
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert not (out / QUARANTINE_NAME).exists()
    report = check_videos(root, out)
    assert 0 < len(checked) <= 4
    assert [file.path for file in report.bad] == BAD


def test_a_named_pipe_is_not_waited_for(root: Path, tmp_path: Path) -> None:
    os.mkfifo(root / "pipe.mp4")
    report = check_videos(root, tmp_path / "out", time_limit_seconds=30)
    assert "is not a file" in str({file.path: file.reason for file in report.files}["pipe.mp4"])


def test_a_link_to_nothing_is_bad(root: Path, tmp_path: Path) -> None:
    (root / "link.mp4").symlink_to(tmp_path / "gone.mp4")
    assert "link.mp4" in [file.path for file in check_videos(root, tmp_path / "out").bad]


def test_an_odd_name_is_no_obstacle(root: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\n\xff.mp4")
    (root / name).write_text("no video")
    assert name in [file.path for file in check_videos(root, tmp_path / "out").bad]
    assert name in [file.path for file in check_videos(root, tmp_path / "out").bad]


def test_progress_is_shown_on_the_callers_console(root: Path, tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    check_videos(root, tmp_path / "out", console=console)
    assert "6/6" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_directory_without_videos_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UserError, match="holds no videos"):
        check_videos(tmp_path, tmp_path / "out")
    with pytest.raises(UserError, match="is not a directory"):
        check_videos(tmp_path / "none", tmp_path / "out")


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"processes": 0}])
def test_less_than_one_is_refused(root: Path, tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="must be at least 1"):
        check_videos(root, tmp_path / "out", **wrong)  # type: ignore[arg-type]

import json
import logging
from pathlib import Path

import pytest
from numbered import render

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.video.check import check_videos
from evlvideo.data.video.quarantine import read_quarantine, without_quarantined
from evlvideo.errors import UserError


def clips(root: Path) -> ClipTable:
    return ClipTable(CaptionedClip(name, root / f"{name}.mp4", ("a caption",)) for name in ("good", "bad"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    render(tmp_path / "videos" / "good.mp4", 3)
    (tmp_path / "videos" / "bad.mp4").write_text("no video")
    return tmp_path / "videos"


def test_what_a_check_found_is_left_out(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    report = check_videos(root, tmp_path / "checked")
    caplog.set_level(logging.INFO)
    kept = without_quarantined(clips(root), read_quarantine(report.quarantine), "msrvtt:train")
    assert [clip.clip_id for clip in kept] == ["good"]
    assert "msrvtt:train: 1 of 2 clips are in quarantine" in caplog.text


def test_a_check_from_another_working_directory_names_the_same_files(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = check_videos(Path("videos"), Path("checked"))
    assert read_quarantine(report.quarantine) == {root.resolve() / "bad.mp4"}


def test_an_empty_list_leaves_nothing_out(tmp_path: Path) -> None:
    (tmp_path / "quarantine.jsonl").touch()
    assert len(without_quarantined(clips(tmp_path), read_quarantine(tmp_path / "quarantine.jsonl"), "x")) == 2


@pytest.mark.parametrize("content", ["no json", json.dumps({"path": "a.mp4"}), "[]"])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "quarantine.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match="not a quarantine list: line 1"):
        read_quarantine(path)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl cannot be read"):
        read_quarantine(tmp_path / "none.jsonl")


def test_a_list_of_everything_leaves_nothing_to_train_on(root: Path) -> None:
    bad = frozenset(clip.video.resolve() for clip in clips(root))
    with pytest.raises(UserError, match="All 2 clips of x are in quarantine"):
        without_quarantined(clips(root), bad, "x")


def test_a_file_of_the_same_name_elsewhere_is_kept(tmp_path: Path) -> None:
    table = ClipTable(CaptionedClip(name, tmp_path / name / "a.mp4", ("a caption",)) for name in ("x", "y", "z"))
    kept = without_quarantined(table, frozenset([tmp_path / "y" / "a.mp4"]), "x")
    assert [clip.clip_id for clip in kept] == ["x", "z"]

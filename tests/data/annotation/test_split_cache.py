import json
import logging
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evlvideo.cache import cache_directory
from evlvideo.cli.app import app
from evlvideo.data.annotation import split_cache
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.annotation.split_cache import read_cached_split
from evlvideo.errors import UserError
from evlvideo.files import replacing


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, that keeps splits of four clips and more."""
    monkeypatch.setenv("EVLVIDEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(split_cache, "CACHED_FROM", 4)
    return cache_directory() / "clips"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for number in range(4):
        (tmp_path / "data" / f"{number}.mp4").touch()
    write(tmp_path / "data", [f"caption {number}" for number in range(4)])
    return tmp_path / "data"


def write(root: Path, captions: list[str]) -> None:
    lines = ({"video": f"{n}.mp4", "captions": [text], "split": "train"} for n, text in enumerate(captions))
    (root / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Calls that read the annotation itself."""
    calls: list[Any] = []
    original = split_cache.read_split
    monkeypatch.setattr(
        split_cache, "read_split", lambda *given, **more: calls.append(given) or original(*given, **more)
    )  # type: ignore[func-returns-value]
    return calls


def test_a_split_is_read_once(root: Path, reads: list[Any], cache: Path) -> None:
    first, second = (read_cached_split("jsonl", "train", root) for _ in range(2))
    assert list(first) == list(second)
    assert [clip.video for clip in second] == [root / f"{number}.mp4" for number in range(4)]
    assert len(reads) == 1
    assert len(list(cache.rglob("*.safetensors"))) == 1


def test_a_small_split_is_not_kept(root: Path, reads: list[Any], cache: Path) -> None:
    write(root, ["a", "b", "c"])
    assert len([read_cached_split("jsonl", "train", root) for _ in range(2)][1]) == 3
    assert len(reads) == 2
    assert not cache.exists()


def test_files_are_looked_for_once(root: Path) -> None:
    read_cached_split("jsonl", "train", root)
    (root / "2.mp4").unlink()
    assert len(read_cached_split("jsonl", "train", root)) == 4


def test_a_split_with_missing_files_is_not_kept(root: Path, cache: Path) -> None:
    (root / "2.mp4").unlink()
    for _ in range(2):
        with pytest.raises(UserError, match=r"1 of 4 videos are not in .*: 2\.mp4"):
            read_cached_split("jsonl", "train", root)
    assert len(read_cached_split("jsonl", "train", root, check_files=False)) == 4
    assert not cache.exists()


def test_an_annotation_that_changed_is_read_anew_and_the_old_table_goes(
    root: Path, reads: list[Any], cache: Path
) -> None:
    read_cached_split("jsonl", "train", root)
    write(root, ["another", *(f"caption {number}" for number in range(1, 4))])
    assert read_cached_split("jsonl", "train", root)[0].captions == ("another",)
    assert len(reads) == 2
    assert len(list(cache.rglob("*.safetensors"))) == 1


def test_what_another_process_is_just_writing_stays(root: Path, cache: Path) -> None:
    read_cached_split("jsonl", "train", root)
    (stored,) = cache.rglob("*.safetensors")
    with replacing(stored) as unfinished:
        write(root, ["another", *(f"caption {number}" for number in range(1, 4))])
        read_cached_split("jsonl", "train", root)
        assert unfinished.exists()


def test_videos_elsewhere_make_another_table(root: Path, tmp_path: Path) -> None:
    read_cached_split("jsonl", "train", root)
    (tmp_path / "elsewhere").symlink_to(root)
    (clip, *_) = read_cached_split("jsonl", "train", root, tmp_path / "elsewhere")
    assert clip.video == tmp_path / "elsewhere" / "0.mp4"


def test_paths_that_mean_another_place_make_another_table(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[Any]
) -> None:
    other = tmp_path / "other" / "data"
    other.parent.mkdir()
    other.symlink_to(root)
    for folder in (root.parent, other.parent):
        monkeypatch.chdir(folder)
        assert read_cached_split("jsonl", "train", Path("data"))[0].video == Path("data/0.mp4")
    assert len(reads) == 2


def test_a_damaged_table_is_made_again(root: Path, cache: Path) -> None:
    read_cached_split("jsonl", "train", root)
    (stored,) = cache.rglob("*.safetensors")
    stored.write_bytes(stored.read_bytes()[:100])
    assert len(read_cached_split("jsonl", "train", root)) == 4
    assert len(ClipTable.open(stored)[0]) == 4


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EVLVIDEO_CACHE", str(tmp_path / "file"))
    caplog.set_level(logging.WARNING)
    assert len(read_cached_split("jsonl", "train", root)) == 4
    assert "jsonl:train is read again by every process" in caplog.text


@pytest.mark.parametrize(
    ("dataset", "split", "message"),
    [
        ("jsonl", "val", "no split 'val'; allowed: train, validate, test"),
        ("none", "train", "The dataset is 'none'"),
        ("msrvtt", "train_7k", "split for retrieval"),
        ("msrvtt", "train", r"no train_val_videodatainfo\.json"),
    ],
)
def test_what_cannot_be_read_says_so(root: Path, dataset: str, split: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_cached_split(dataset, split, root)


def test_a_command_reads_a_split_before_runs_do(root: Path, reads: list[Any], restore_logging: None) -> None:
    done = CliRunner().invoke(app, ["data", "index", str(root), "--dataset", "jsonl"])
    assert (done.exit_code, done.output) == (0, "jsonl:train: 4 clips, all with their files.\n")
    assert len(read_cached_split("jsonl", "train", root)) == 4
    assert len(reads) == 1


def test_a_table_whose_counts_were_not_checked_is_not_one_that_was(tmp_path: Path) -> None:
    (tmp_path / "dataset_coco.json").touch()
    place, other = (split_cache._place("coco", "train", tmp_path, None, checked) for checked in (True, False))
    assert place.parent == other.parent
    assert place != other

"""Rendered datasets: found by name, and places in them that configs can name."""

from pathlib import Path

import pytest

from evlvideo.assembly.clips import read_training_clips
from evlvideo.config.data import DataConfig, SourceConfig
from evlvideo.errors import UserError
from evlvideo.mini import rendered
from evlvideo.mini.images.build import build_mini_images


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small set, as if it were the rendered one."""
    sizes = {"shards": 3, "lavis": 2, "train": 2, "validate": 1, "test": 1}
    root = build_mini_images(tmp_path / "set", progress=False, sizes=sizes)
    monkeypatch.setitem(rendered.RENDERED, "mini_images", lambda: root)
    return root


def test_a_rendered_dataset_needs_no_root(images: Path) -> None:
    assert rendered.root_of("mini_images", None) == images


def test_an_ordinary_root_is_kept(tmp_path: Path) -> None:
    assert rendered.root_of("mini_images", tmp_path / "mine") == tmp_path / "mine"
    assert rendered.root_of("msrvtt", tmp_path) == tmp_path


def test_another_dataset_needs_a_root() -> None:
    with pytest.raises(UserError, match=r"'vqav2' has no root; set data\.root .*--root"):
        rendered.root_of("vqav2", None)


def test_a_place_in_a_rendered_dataset_is_a_root(images: Path) -> None:
    assert rendered.root_of("lavis", Path("rendered:mini_images/lavis")) == images / "lavis"
    assert rendered.resolved(Path("rendered:mini_images")) == images


@pytest.mark.parametrize("place", ["rendered:msrvtt/shards", "rendered:mini_images/../other", "rendered:"])
def test_a_place_that_is_in_no_rendered_dataset_is_refused(place: str) -> None:
    with pytest.raises(UserError, match=r"allowed: rendered:mini, rendered:mini_images, and folders in them"):
        rendered.resolved(Path(place))


def test_a_run_trains_on_all_three_parts(images: Path) -> None:
    sources = [
        SourceConfig("shards", "rendered:mini_images/shards", ratio=15),
        SourceConfig("lavis", "rendered:mini_images/lavis", ratio=4),
        SourceConfig("mini_images", ratio=1),
    ]
    data = DataConfig(dataset="mini_images", check_counts=False, sources=sources)
    assert [len(clips) for clips in read_training_clips(data).values()] == [3, 2, 2]

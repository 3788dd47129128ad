"""A finished toy run, and a folder of its clips."""

import shutil
from pathlib import Path

import pytest
from toy_run import Toy


@pytest.fixture(scope="module")
def captioner(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.finished_run(tmp_path_factory.mktemp("corpus") / "run", fusion="concat")


@pytest.fixture
def clips(toy: Toy, tmp_path: Path) -> Path:
    """Six clips, two of them in a folder of their own, and a file that is none."""
    (tmp_path / "clips/more").mkdir(parents=True)
    for number, clip in enumerate(toy.clips("test")):
        shutil.copy(clip.video, tmp_path / "clips" / ("more" if number > 3 else ".") / f"clip{number}.mp4")
    (tmp_path / "clips/broken.mp4").write_bytes(b"no video")
    return tmp_path / "clips"

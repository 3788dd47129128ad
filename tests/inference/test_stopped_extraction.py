"""An extraction that is stopped keeps what it has, and goes on with the rest."""

import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from toy_run import Toy

from evlvideo.config.run import RunConfig
from evlvideo.data.loading.features import store as feature_store
from evlvideo.data.loading.features.store import split_directory
from evlvideo.errors import Interrupted
from evlvideo.inference import extract_features as feature_extraction
from evlvideo.inference.extract_features import extract_features

BATCH = 2


class Killed(BaseException):
    """The process ends at once."""


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_store, "CLIPS_PER_SHARD", 5)


@pytest.fixture
def config(toy: Toy, tmp_path: Path) -> RunConfig:
    data = {"train_sampling": "uniform", "augment": False, "features": str(tmp_path / "features"), "num_workers": 0}
    return toy.config(tmp_path / "run", None, data=data)


@pytest.fixture
def expected(config: RunConfig, tmp_path: Path) -> dict[str, bytes]:
    """The files of an extraction that nothing stopped."""
    data = replace(config.data, features=str(tmp_path / "whole"))
    extract_features(replace(config, data=data), ["train"], batch_size=BATCH)
    return {path.name: path.read_bytes() for path in split_directory(tmp_path / "whole", "mini", "train").iterdir()}


def stopped(config: RunConfig, stop: Callable[[], Any], after: int) -> int:
    """Run until `stop` is called in place of a batch, or to the end; return how many batches were encoded."""
    encoded = 0

    def encode(self: Any, batch: Any) -> Any:
        nonlocal encoded
        if encoded == after:
            stop()
        encoded += 1
        return original(self, batch)

    original = feature_extraction._Encoder.encode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_extraction._Encoder, "encode", encode)
        with suppress(Killed):
            extract_features(config, ["train"], batch_size=BATCH)
    return encoded


def interrupt() -> None:
    raise KeyboardInterrupt


def kill() -> None:
    raise Killed


def parts(config: RunConfig) -> list[str]:
    return sorted(path.name for path in store(config).glob("part-*"))


def store(config: RunConfig) -> Path:
    return split_directory(Path(str(config.data.features)), "mini", "train")


def files(config: RunConfig) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store(config).iterdir()}


@pytest.mark.parametrize("stop", [interrupt, lambda: os.kill(os.getpid(), signal.SIGTERM)], ids=["SIGINT", "SIGTERM"])
def test_a_signal_keeps_every_clip_and_says_how_to_go_on(
    config: RunConfig, expected: dict[str, bytes], stop: Callable[[], Any]
) -> None:
    with pytest.raises(Interrupted, match=r"Stopped at 6 of 8 clips of mini-train, .*the same command again to go on"):
        stopped(config, stop, after=3)
    assert parts(config) == ["part-00001-00000.safetensors"]
    assert len(load_file(store(config) / parts(config)[0])) == 1
    assert stopped(config, interrupt, after=99) == 1
    assert files(config) == expected


def test_a_killed_extraction_has_what_was_written_from_time_to_time(
    config: RunConfig, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_extraction, "KEPT_SECONDS", 0.0)
    stopped(config, kill, after=2)
    assert len(parts(config)) == 4
    assert stopped(config, kill, after=99) == 2
    assert files(config) == expected


def test_quick_extractions_write_no_parts(config: RunConfig, expected: dict[str, bytes]) -> None:
    stopped(config, kill, after=2)
    assert parts(config) == []


def test_a_part_that_is_broken_is_made_again(
    config: RunConfig, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_extraction, "KEPT_SECONDS", 0.0)
    stopped(config, kill, after=2)
    path = store(config) / parts(config)[0]
    path.write_bytes(path.read_bytes()[:-10])
    stopped(config, kill, after=99)
    assert files(config) == expected


def test_parts_of_a_video_that_has_changed_are_made_again(
    toy: Toy, config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_extraction, "KEPT_SECONDS", 0.0)
    shutil.copytree(toy.data, tmp_path / "data", copy_function=shutil.copyfile)
    config = replace(config, data=replace(config.data, root=str(tmp_path / "data")))
    stopped(config, kill, after=2)
    names = [clip.video.name for clip in toy.clips("train")]
    shutil.copyfile(tmp_path / "data" / "videos" / names[4], tmp_path / "data" / "videos" / names[0])
    stopped(config, kill, after=99)
    made = load_file(store(config) / "features-00000.safetensors")
    assert made[toy.clips("train")[0].clip_id].equal(made[toy.clips("train")[4].clip_id])


def test_parts_of_a_finished_shard_are_removed(config: RunConfig, expected: dict[str, bytes]) -> None:
    stopped(config, kill, after=99)
    (store(config) / "part-00000-00000.safetensors").write_bytes(b"left by a kill")
    stopped(config, kill, after=99)
    assert files(config) == expected

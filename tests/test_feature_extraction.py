"""Features made once: the same losses and captions as from videos, resumed, and refused where they do not fit."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from toy_run import FRAMES, SPLITS, Toy, make_trainer

from evlvideo.config import RunConfig
from evlvideo.data import feature_store
from evlvideo.data.feature_store import split_directory
from evlvideo.errors import UserError
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.feature_extraction import extract_features
from evlvideo.training.run import train

FORM = {"fusion": "mean_tokens", "contextualizer": "merged"}


def config_of(toy: Toy, out: Path, features: Path | None, **sections: Any) -> RunConfig:
    data = {"train_sampling": "uniform", "augment": False, "features": None if features is None else str(features)}
    return toy.config(out, model=FORM, data={**data, **sections.pop("data", {})}, **sections)


@pytest.fixture(scope="module")
def features(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_store, "CLIPS_PER_SHARD", 3)
        return extract_features(config_of(toy, root / "unused", root), ["train", "validate", "test"])


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_store, "CLIPS_PER_SHARD", 3)


def losses(config: RunConfig) -> list[float]:
    torch.manual_seed(0)  # the contextualizer is new
    trainer = make_trainer(config)
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("stage", ["caption", "scst"])
def test_losses_are_those_from_videos(toy: Toy, tmp_path: Path, features: Path, stage: str) -> None:
    run = {"stage": stage}
    from_videos = losses(config_of(toy, tmp_path / "videos", None, run=run))
    from_features = losses(config_of(toy, tmp_path / "features", features, run=run))
    assert from_features == from_videos
    assert len(from_videos) == 6


def test_run_needs_no_videos(toy: Toy, tmp_path: Path, features: Path) -> None:
    shutil.copytree(toy.data, tmp_path / "data")
    for video in (tmp_path / "data" / "videos").iterdir():
        video.write_bytes(b"")
    config = config_of(toy, tmp_path / "run", features, data={"root": str(tmp_path / "data")})
    run = train(config)
    assert evaluate(run, config=config).clips_scored == SPLITS["test"]


def test_captions_are_those_from_videos(toy: Toy, tmp_path: Path, features: Path) -> None:
    run = toy.finished_run(tmp_path / "run", **FORM)
    found = [
        evaluate(run, config=config_of(toy, run, source), shuffle_frames=shuffled).scores["cider"]
        for source in (None, features)
        for shuffled in (False, True)
    ]
    assert found[:2] == found[2:]


def test_features_are_the_towers_frame_by_frame(toy: Toy, features: Path) -> None:
    directory = split_directory(features, "mini", "train")
    shards = sorted(directory.glob("*.safetensors"))
    assert len(shards) == -(-SPLITS["train"] // 3)
    stored = load_file(shards[0])
    assert set(stored) == {clip.clip_id for clip in toy.clips("train")[:3]}
    assert all(value.shape[0] == FRAMES for value in stored.values())


def test_stopped_extraction_goes_on_where_it_stopped(toy: Toy, tmp_path: Path, features: Path) -> None:
    copied = tmp_path / "features"
    shutil.copytree(features, copied)
    directory = split_directory(copied, "mini", "train")
    kept, lost = sorted(directory.glob("*.safetensors"))[:2]
    before, expected = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    config = config_of(toy, tmp_path / "run", copied)
    with pytest.raises(UserError, match="1 of its shards are missing"):
        train(config)
    extract_features(config, ["train"])
    assert lost.read_bytes() == expected
    assert kept.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_frames": 2}, "num_frames is 3 there and 2 here"),
        ({"eval_sampling": "segment_middles", "train_sampling": "segment_middles"}, "sampling is uniform there"),
    ],
)
def test_features_made_otherwise_are_refused(
    toy: Toy, tmp_path: Path, features: Path, changes: dict[str, Any], named: str
) -> None:
    config = config_of(toy, tmp_path / "run", features, data=changes)
    for use in (train, lambda config: extract_features(config, ["train"])):
        with pytest.raises(UserError, match=named):
            use(config)


def test_features_of_another_tower_are_refused(toy: Toy, tmp_path: Path, features: Path) -> None:
    other = tmp_path / "features"
    shutil.copytree(features, other)
    key = split_directory(other, "mini", "train") / "key.json"
    text = key.read_text()
    start = text.index('"tower": "') + len('"tower": "')
    key.write_text(text[:start] + "0" * 64 + text[start + 64 :])
    with pytest.raises(UserError, match="tower is 000000000000 there"):
        train(config_of(toy, tmp_path / "run", other))


def test_clips_that_cannot_be_decoded_are_left_out_of_training_and_named_in_evaluation(
    toy: Toy, tmp_path: Path
) -> None:
    shutil.copytree(toy.data, tmp_path / "data")
    for split in ("train", "test"):
        (tmp_path / "data" / "videos" / toy.clips(split)[1].video.name).write_bytes(b"no video")
    config = config_of(toy, tmp_path / "run", tmp_path / "features", data={"root": str(tmp_path / "data")})
    extract_features(config, ["train", "validate", "test"])
    run = train(config)
    assert evaluate(run, config=config).missing_clips == [toy.clips("test")[1].clip_id]


def test_missing_features_are_a_user_error(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There are no features in .*mini-train"):
        train(config_of(toy, tmp_path / "run", tmp_path / "none"))


def test_run_without_a_directory_for_features_is_a_user_error(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set data\.features"):
        extract_features(config_of(toy, tmp_path / "run", None), ["train"])


def test_unknown_type_is_a_user_error(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'int8'; allowed: bf16, fp16, fp32"):
        extract_features(config_of(toy, tmp_path / "run", tmp_path / "x"), ["train"], dtype="int8")


def test_config_that_would_draw_frames_is_refused(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        config = config_of(toy, tmp_path / "run", None)
        replace(config, data=replace(config.data, features="x", augment=True, train_sampling="headtail"))
    assert "data.train_sampling=uniform" in str(caught.value) and "data.augment=false" in str(caught.value)

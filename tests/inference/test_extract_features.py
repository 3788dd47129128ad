"""Features made once: the same losses and captions as from videos, resumed, and refused where they do not fit."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from toy_run import FRAMES, SPLITS, Toy, make_trainer

from evlvideo.assembly import datasets
from evlvideo.assembly import models as assembly
from evlvideo.cli.evaluation import evaluate
from evlvideo.config.run import RunConfig
from evlvideo.data.loading.features import store as feature_store
from evlvideo.data.loading.features.key import FeatureKey
from evlvideo.data.loading.features.store import FeatureReader, split_directory
from evlvideo.errors import UserError
from evlvideo.files import read_json, write_json
from evlvideo.inference import extract_features as feature_extraction
from evlvideo.inference.extract_features import extract_features
from evlvideo.training.run import train

FORM = {"fusion": "mean_tokens", "contextualizer": "merged"}


MEAN = {"fusion": "mean"}


def config_of(
    toy: Toy, out: Path, features: Path | None, model: dict[str, Any] = FORM, init: Path | None = None, **sections: Any
) -> RunConfig:
    data = {"train_sampling": "uniform", "augment": False, "features": None if features is None else str(features)}
    return toy.config(out, init, model=model, data={**data, **sections.pop("data", {})}, **sections)


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


@pytest.mark.parametrize("model", [FORM, MEAN], ids=["all", "mean"])
def test_losses_in_bf16_are_those_from_videos(toy: Toy, tmp_path: Path, model: dict[str, Any]) -> None:
    training = {"precision": "bf16", "max_steps": 2}
    config = config_of(toy, tmp_path / "features", tmp_path / "features", model, training=training)
    extract_features(config, ["train", "validate"])
    assert losses(config) == losses(config_of(toy, tmp_path / "videos", None, model, training=training))


@pytest.mark.usefixtures("no_java")
def test_run_needs_no_videos(toy: Toy, tmp_path: Path, features: Path) -> None:
    shutil.copytree(toy.data, tmp_path / "data")
    for video in (tmp_path / "data" / "videos").iterdir():
        video.write_bytes(b"")
    config = config_of(toy, tmp_path / "run", features, data={"root": str(tmp_path / "data")})
    run = train(config)
    assert evaluate(run, config=config).clips_scored == SPLITS["test"]


@pytest.mark.usefixtures("no_java")
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
    shards = sorted(directory.glob("features-*.safetensors"))
    assert len(shards) == -(-SPLITS["train"] // 3)
    stored = load_file(shards[0])
    assert set(stored) == {clip.clip_id for clip in toy.clips("train")[:3]}
    assert all(value.shape[0] == FRAMES for value in stored.values())


def test_stopped_extraction_goes_on_where_it_stopped(toy: Toy, tmp_path: Path, features: Path) -> None:
    copied = tmp_path / "features"
    shutil.copytree(features, copied)
    directory = split_directory(copied, "mini", "train")
    kept, lost = sorted(directory.glob("features-*.safetensors"))[:2]
    before, expected = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    config = config_of(toy, tmp_path / "run", copied)
    with pytest.raises(UserError, match="1 of its shards are missing"):
        train(config)
    extract_features(config, ["train"])
    assert lost.read_bytes() == expected
    assert kept.stat().st_mtime_ns == before


def test_a_process_leaves_no_shard_out_when_another_is_quicker(
    toy: Toy, tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = tmp_path / "features"
    shutil.copytree(features, copied)
    shards = sorted(split_directory(copied, "mini", "train").glob("features-*.safetensors"))
    for shard in shards:
        shard.rename(shard.with_suffix(".kept"))

    def then_the_other_writes_its_first(work: Callable[[], Any]) -> Any:
        found = work()
        shards[0].with_suffix(".kept").rename(shards[0])
        return found

    second = SimpleNamespace(process_index=1, num_processes=2, device=torch.device("cpu"))
    monkeypatch.setattr(feature_extraction, "join_processes", lambda: second)
    monkeypatch.setattr(feature_extraction, "on_main_process", then_the_other_writes_its_first)
    extract_features(config_of(toy, tmp_path / "run", copied), ["train"])
    assert [shard.exists() for shard in shards] == [True, True, False]


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


def test_a_store_of_another_type_is_not_gone_on_with(toy: Toy, tmp_path: Path, features: Path) -> None:
    with pytest.raises(UserError, match="stored_in is fp32 there and bf16 here"):
        extract_features(config_of(toy, tmp_path / "run", features), ["train"], dtype="bf16")


def test_features_of_another_type_are_read_with_a_warning(
    toy: Toy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = config_of(toy, tmp_path / "run", tmp_path / "features")
    extract_features(config, ["train", "validate"], dtype="bf16")
    train(config)
    assert "stored_in is bf16 there and fp32 here" in caplog.text


@pytest.mark.parametrize("name", ["DECODING_VERSION", "TRANSFORM_VERSION"])
def test_features_of_pixels_that_come_out_otherwise_today_are_refused(
    toy: Toy, tmp_path: Path, features: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, name, 99)
    with pytest.raises(UserError, match=rf"{name.lower()} is \d+ there and 99 here"):
        train(config_of(toy, tmp_path / "run", features))


def test_key_of_an_earlier_version_says_what_it_lacks(toy: Toy, tmp_path: Path, features: Path) -> None:
    shutil.copytree(features, tmp_path / "features")
    key = split_directory(tmp_path / "features", "mini", "train") / "key.json"
    write_json(key, {name: value for name, value in read_json(key).items() if not name.endswith("version")})
    with pytest.raises(UserError, match=r"lacks decoding_version, transform_version.*Extract the features again"):
        train(config_of(toy, tmp_path / "run", tmp_path / "features"))


@pytest.fixture
def moved(toy: Toy, tmp_path: Path, features: Path) -> RunConfig:
    """A run of copies of the videos and their features, one shard of which is still to be made."""
    shutil.copytree(toy.data, tmp_path / "data", copy_function=shutil.copyfile)
    shutil.copytree(features, tmp_path / "features")
    (split_directory(tmp_path / "features", "mini", "train") / "features-00002.safetensors").unlink()
    return config_of(toy, tmp_path / "run", tmp_path / "features", data={"root": str(tmp_path / "data")})


def video(config: RunConfig, toy: Toy, number: int) -> Path:
    return Path(str(config.data.root)) / "videos" / toy.clips("train")[number].video.name


def test_copies_of_files_are_the_files(toy: Toy, moved: RunConfig, features: Path) -> None:
    made = extract_features(moved, ["train"])
    for shard in split_directory(features, "mini", "train").iterdir():
        assert (split_directory(made, "mini", "train") / shard.name).read_bytes() == shard.read_bytes()


def test_extraction_does_not_go_on_beside_features_of_other_files(toy: Toy, moved: RunConfig) -> None:
    shutil.copyfile(video(moved, toy, 1), video(moved, toy, 0))
    name = toy.clips("train")[0].clip_id
    with pytest.raises(UserError, match=rf"The files of 1 clips .*: {name}. Remove features-00000.safetensors"):
        extract_features(moved, ["train"])


def test_a_file_that_changed_before_its_shard_was_made_is_right(toy: Toy, moved: RunConfig) -> None:
    shutil.copyfile(video(moved, toy, 1), video(moved, toy, 7))
    directory = split_directory(extract_features(moved, ["train"]), "mini", "train")
    one, other = (load_file(directory / f"features-0000{shard}.safetensors") for shard in (0, 2))
    clips = toy.clips("train")
    torch.testing.assert_close(other[clips[7].clip_id], one[clips[1].clip_id])


def test_a_run_does_not_train_on_features_of_other_videos(toy: Toy, moved: RunConfig) -> None:
    extract_features(moved, ["train"])
    shutil.copyfile(video(moved, toy, 1), video(moved, toy, 0))
    with pytest.raises(UserError, match=f"The file of {toy.clips('train')[0].clip_id} has changed since"):
        train(moved)


@pytest.fixture(scope="module")
def means(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of a run that takes the mean of the frames."""
    root = tmp_path_factory.mktemp("means")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_store, "CLIPS_PER_SHARD", 3)
        return extract_features(config_of(toy, root / "unused", root, MEAN), ["train", "validate"])


def test_of_a_mean_the_mean_alone_is_kept(toy: Toy, means: Path, features: Path) -> None:
    name = toy.clips("train")[0].clip_id
    mean, every = (
        load_file(split_directory(root, "mini", "train") / "features-00000.safetensors")[name]
        for root in (means, features)
    )
    assert mean.shape[0] == 1
    assert torch.equal(mean, every.mean(dim=0, keepdim=True))


@pytest.mark.parametrize("kept", ["mean", "all"])
def test_losses_from_means_are_those_from_videos(
    toy: Toy, tmp_path: Path, means: Path, features: Path, kept: str
) -> None:
    from_videos = losses(config_of(toy, tmp_path / "videos", None, MEAN))
    source = {"mean": means, "all": features}[kept]
    assert losses(config_of(toy, tmp_path / "features", source, MEAN)) == from_videos


def test_a_run_that_wants_every_frame_is_not_given_means(toy: Toy, tmp_path: Path, means: Path) -> None:
    with pytest.raises(UserError, match="frames is mean there and all here"):
        train(config_of(toy, tmp_path / "run", means))


def test_all_frames_are_kept_on_request(toy: Toy, tmp_path: Path) -> None:
    root = extract_features(config_of(toy, tmp_path, tmp_path, MEAN), ["validate"], all_frames=True)
    stored = load_file(split_directory(root, "mini", "validate") / "features-00000.safetensors")
    assert all(len(value) == FRAMES for value in stored.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stored_mean_gives_the_prompt_of_the_frames(toy: Toy, tmp_path: Path, dtype: torch.dtype) -> None:
    model, _ = assembly.start_model(config_of(toy, tmp_path, None, MEAN), tower_dtype=dtype)
    features = torch.randn(4, FRAMES, model.vision_tower.num_tokens, model.vision_tower.dim).to(dtype)
    mean = torch.stack([clip.mean(dim=0, keepdim=True) for clip in features])
    assert torch.equal(model.encode(features=mean), model.encode(features=features))


def test_extraction_needs_no_language_model(
    toy: Toy, tmp_path: Path, features: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is opened for nothing")

    monkeypatch.setattr("evlvideo.models.towers.read_language_model", refuse)
    made = extract_features(config_of(toy, tmp_path, tmp_path), ["validate"])
    first, second = (split_directory(root, "mini", "validate") / "key.json" for root in (made, features))
    assert first.read_text() == second.read_text()


def test_a_checkpoint_that_stands_alone_has_its_tower(toy: Toy, tmp_path: Path, features: Path) -> None:
    model, processor = assembly.start_model(config_of(toy, tmp_path, None), tower_dtype=torch.float32)
    model.save_pretrained(tmp_path / "whole", full=True)
    processor.save_pretrained(tmp_path / "whole")
    config = config_of(toy, tmp_path / "run", tmp_path / "features", init=tmp_path / "whole")
    name = split_directory(extract_features(config, ["validate"]), "mini", "validate") / "features-00000.safetensors"
    found, expected = load_file(name), load_file(features / name.relative_to(tmp_path / "features"))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[clip_id], expected[clip_id]) for clip_id in found)


def test_larger_batches_make_nearly_the_same_features(toy: Toy, tmp_path: Path, features: Path) -> None:
    root = extract_features(config_of(toy, tmp_path, tmp_path), ["train"], batch_size=7)
    for shard in split_directory(features, "mini", "train").glob("features-*"):
        found, expected = load_file(split_directory(root, "mini", "train") / shard.name), load_file(shard)
        for clip_id, value in expected.items():
            torch.testing.assert_close(found[clip_id], value)


def test_a_batch_of_nothing_is_a_user_error(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="The batch size is 0"):
        extract_features(config_of(toy, tmp_path, tmp_path), ["train"], batch_size=0)


@pytest.mark.usefixtures("no_java")
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


def test_clips_of_another_split_have_no_features(toy: Toy, features: Path) -> None:
    directory = split_directory(features, "mini", "train")
    reader = FeatureReader(directory, FeatureKey.read(directory))
    reader.check(toy.clips("train")[2:5])
    name = toy.clips("test")[0].clip_id
    for use in (lambda: reader.check(toy.clips("test")), lambda: reader.read(name)):
        with pytest.raises(UserError, match=f"has no features of {name}"):
            use()


def test_missing_features_are_a_user_error(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There are no features in .*mini-train"):
        train(config_of(toy, tmp_path / "run", tmp_path / "none"))


def test_run_without_a_directory_for_features_is_a_user_error(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.features is not set; set it"):
        extract_features(config_of(toy, tmp_path / "run", None), ["train"])


def test_unknown_type_is_a_user_error(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'int8'; allowed: bf16, fp16, fp32"):
        extract_features(config_of(toy, tmp_path / "run", tmp_path / "x"), ["train"], dtype="int8")


def test_config_that_would_draw_frames_is_refused(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        config = config_of(toy, tmp_path / "run", None)
        replace(config, data=replace(config.data, features="x", augment=True, train_sampling="headtail"))
    assert "data.train_sampling=uniform" in str(caught.value) and "data.augment=false" in str(caught.value)

import json
import logging
import pickle
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_run import FRAMES, IMAGE_SIZE, SPLITS, Toy

from evlvideo.assembly.clips import clips_of_run, read_clips, read_training_clips, references_of
from evlvideo.assembly.datasets import train_dataset, training_dataset, video_dataset
from evlvideo.assembly.models import open_model, start_model
from evlvideo.assembly.precision import resolve_precision
from evlvideo.config.data import DataConfig, SourceConfig
from evlvideo.data.loading.mixture import Mixture
from evlvideo.errors import UserError
from evlvideo.models.connectors import CONNECTORS
from evlvideo.models.processing import EvlVideoProcessor


@pytest.fixture
def processor(toy: Toy) -> EvlVideoProcessor:
    return EvlVideoProcessor.from_pretrained(toy.checkpoint)


@pytest.mark.parametrize("split", SPLITS)
def test_clips_are_those_of_the_split(toy: Toy, split: str) -> None:
    clips = read_clips(DataConfig(dataset="mini", root=str(toy.data)), split)
    assert list(clips) == list(toy.clips(split))
    assert len(clips) == SPLITS[split]


def test_videos_may_be_elsewhere(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "clips").symlink_to(toy.data / "videos")
    data = DataConfig(dataset="mini", root=str(toy.data), video_root=str(tmp_path / "clips"))
    assert all(clip.video.parent == tmp_path / "clips" for clip in read_clips(data, "test"))


def test_clips_in_quarantine_are_not_trained_on(toy: Toy, tmp_path: Path) -> None:
    bad = toy.clips("train")[3].video
    quarantine = tmp_path / "quarantine.jsonl"
    quarantine.write_text(json.dumps({"root": str(bad.parent.resolve()), "path": bad.name}) + "\n")
    data = DataConfig(dataset="mini", root=str(toy.data), quarantine=str(quarantine))
    (clips,) = read_training_clips(data).values()
    assert list(clips) == [clip for clip in toy.clips("train") if clip.video != bad]
    data.sources = [SourceConfig(dataset="mini", root=str(toy.data)) for _ in range(2)]
    assert [len(list(clips)) for clips in read_training_clips(data).values()] == [SPLITS["train"] - 1] * 2


def test_retrieval_splits_are_read_for_retrieval_alone(toy: Toy, tmp_path: Path) -> None:
    for name in ("train_val_videodatainfo.json", "test_videodatainfo.json", "videos"):
        (tmp_path / name).symlink_to(toy.data / name)
    listed = [clip.clip_id for clip in toy.clips("train")][:2]
    (tmp_path / "MSRVTT_train.9k.csv").write_text("\n".join(["video_id", *listed]))
    data = DataConfig(dataset="msrvtt", root=str(tmp_path), train_split="train_9k", check_counts=False)
    (clips,) = read_training_clips(data, purpose="retrieval").values()
    assert [clip.clip_id for clip in clips] == listed
    with pytest.raises(UserError, match="a split for retrieval"):
        read_training_clips(data)


def test_a_run_trains_on_as_many_clips_as_it_says_and_validates_on_all(toy: Toy) -> None:
    data = DataConfig(dataset="mini", root=str(toy.data), train_clips=3)
    (clips,) = read_training_clips(data).values()
    assert len(clips) == 3
    assert list(clips_of_run(data, "train")) == list(clips)
    assert len(clips_of_run(data, "validate")) == SPLITS["validate"]
    sources = [SourceConfig(dataset="mini", root=str(toy.data), clips=count) for count in (2, None)]
    of_sources = read_training_clips(DataConfig(sources=sources)).values()
    assert [len(found) for found in of_sources] == [2, SPLITS["train"]]


def test_clips_that_are_not_drawn_need_no_file(toy: Toy, tmp_path: Path) -> None:
    shutil.copytree(toy.data, tmp_path / "data")
    data = DataConfig(dataset="mini", root=str(tmp_path / "data"), train_clips=3)
    drawn = clips_of_run(data, "train")
    for clip in toy.clips("train"):
        if clip.clip_id not in drawn.ids:
            (tmp_path / "data" / "videos" / clip.video.name).unlink()
    assert list(clips_of_run(data, "train")) == list(drawn)
    drawn[0].video.unlink()
    with pytest.raises(UserError, match="1 of 3 videos are not in"):
        clips_of_run(data, "train")


def test_reading_clips_is_told(toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "evlvideo"):
        clips_of_run(DataConfig(dataset="mini", root=str(toy.data), train_clips=3), "train")
    assert caplog.messages[-1].startswith(
        "the clips of mini:train: 3 clips with 60 captions, drawn from all of mini:train, "
    )


def test_a_data_set_without_a_root_is_refused() -> None:
    with pytest.raises(UserError, match=r"set data\.root"):
        read_clips(DataConfig(dataset="msrvtt"), "test")


def test_references_are_all_captions_of_each_clip(toy: Toy) -> None:
    clips = toy.clips("test")
    references = references_of(clips)
    assert list(references) == [clip.clip_id for clip in clips]
    assert all(len(captions) == 20 for captions in references.values())


@pytest.mark.parametrize("per_caption, items", [(True, 20 * SPLITS["train"]), (False, SPLITS["train"])])
def test_training_items_are_captions_or_clips(
    toy: Toy, tmp_path: Path, processor: EvlVideoProcessor, per_caption: bool, items: int
) -> None:
    dataset = train_dataset(toy.config(tmp_path), processor, toy.clips("train"), per_caption=per_caption)
    assert len(dataset) == items
    assert dataset[0]["pixel_values"].shape == (FRAMES, 3, IMAGE_SIZE, IMAGE_SIZE)


def test_training_frames_differ_by_walk_and_seed(toy: Toy, tmp_path: Path, processor: EvlVideoProcessor) -> None:
    clips, frames = toy.clips("train"), []
    for seed, walk in ((1, 0), (1, 0), (1, 1), (2, 0)):
        dataset = train_dataset(replace(toy.config(tmp_path), seed=seed), processor, clips, per_caption=False)
        frames.append(dataset.item(0, walk)["pixel_values"])
    assert torch.equal(frames[0], frames[1])
    assert not torch.equal(frames[0], frames[2]) and not torch.equal(frames[0], frames[3])


def test_evaluation_frames_do_not_differ_by_walk(toy: Toy, tmp_path: Path, processor: EvlVideoProcessor) -> None:
    dataset = video_dataset(toy.config(tmp_path).data, processor, toy.clips("test"))
    first = dataset[1]["pixel_values"]
    assert torch.equal(dataset.item(1, walk=1)["pixel_values"], first)
    assert first.shape == (FRAMES, 3, IMAGE_SIZE, IMAGE_SIZE)


def test_a_run_changes_only_what_its_config_names(toy: Toy, tmp_path: Path) -> None:
    model, _ = start_model(toy.config(tmp_path, model={"fusion": "concat"}), tower_dtype=torch.float32)
    assert (model.config.fusion, model.config.contextualizer, model.config.merge_r) == ("concat", "none", 4)


def test_a_run_starts_with_the_weights_of_its_checkpoint(toy: Toy, tmp_path: Path) -> None:
    changes = {"contextualizer": "in_tower", "frame_positions": True}
    model, _ = start_model(toy.config(tmp_path, model=changes), tower_dtype=torch.float32)
    own = model.state_dict()
    saved = load_file(toy.checkpoint / "model.safetensors")
    assert saved and all(torch.equal(own[name], weight) for name, weight in saved.items())


def test_changes_that_contradict_each_other_are_refused(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fusion=mean averages the frames before"):
        start_model(toy.config(tmp_path, model={"contextualizer": "merged"}), tower_dtype=torch.float32)


@pytest.mark.parametrize("connector", tuple(CONNECTORS)[1:])
def test_a_run_may_give_its_checkpoint_another_connector(
    toy: Toy, tmp_path: Path, connector: str, caplog: pytest.LogCaptureFixture
) -> None:
    blocks = {"connector_options": {"relation_blocks": 2}} if connector == "videochat" else {}
    config = toy.config(tmp_path, model={"connector": connector, **blocks})
    first, second = (start_model(config, tower_dtype=torch.float32)[0] for _ in range(2))
    saved = load_file(toy.checkpoint / "model.safetensors")
    assert torch.equal(first.ln_vision.weight, saved["ln_vision.weight"])
    assert f"connector={connector} starts at random" in caplog.text
    kept = torch.equal(first.language_projection.weight, second.language_projection.weight)
    assert kept == (connector not in ("mlp", "pixel_shuffle", "linear", "average_pool"))


def test_frozen_towers_are_kept_in_their_type(toy: Toy, tmp_path: Path) -> None:
    model, _ = start_model(toy.config(tmp_path), tower_dtype=torch.bfloat16)
    kept = {weight.dtype for weight in (*model.vision_tower.parameters(), *model.language_model.parameters())}
    assert kept == {torch.bfloat16}
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}


def test_an_opened_model_is_ready_to_caption(toy: Toy, tmp_path: Path) -> None:
    model, processor = open_model(toy.checkpoint, toy.config(tmp_path))
    assert not model.training
    assert processor.image_size == IMAGE_SIZE


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_model_trained_on_a_gpu_opens_without_one(toy: Toy, tmp_path: Path) -> None:
    model, _ = open_model(toy.checkpoint, toy.config(tmp_path, training={"precision": "bf16"}))
    assert {weight.dtype for weight in model.parameters() if not weight.requires_grad} == {torch.bfloat16}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_model_of_a_precision_that_the_cpu_has_not_asks_for_another(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"precision is fp16, and there is no GPU.*allowed here: auto, fp32, bf16"):
        open_model(toy.checkpoint, toy.config(tmp_path, training={"precision": "fp16"}))


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, present: bool, has_bf16: bool) -> None:
    def has_it(including_emulation: bool = True) -> bool:
        return has_bf16 or including_emulation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: present)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", has_it)


@pytest.mark.parametrize(
    "present, has_bf16, expected", [(False, False, "fp32"), (True, False, "fp32"), (True, True, "bf16")]
)
def test_auto_is_bf16_where_a_gpu_has_it(
    monkeypatch: pytest.MonkeyPatch, present: bool, has_bf16: bool, expected: str
) -> None:
    pretend_gpu(monkeypatch, present, has_bf16)
    assert resolve_precision("auto") == expected


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_a_named_precision_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    pretend_gpu(monkeypatch, present=True, has_bf16=True)
    assert resolve_precision(precision) == precision


@pytest.mark.parametrize(
    "precision, present, reason, allowed",
    [
        ("fp16", False, "there is no GPU, which it needs", "auto, fp32, bf16"),
        ("bf16", True, "this GPU does not have it", "auto, fp32, fp16"),
    ],
)
def test_half_precision_needs_a_device_that_has_it(
    monkeypatch: pytest.MonkeyPatch, precision: str, present: bool, reason: str, allowed: str
) -> None:
    pretend_gpu(monkeypatch, present, has_bf16=False)
    with pytest.raises(
        UserError, match=rf"training\.precision is {precision}, and {reason}; allowed here: {allowed}\."
    ):
        resolve_precision(precision)


def test_bf16_that_is_asked_for_is_computed_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, present=False, has_bf16=False)
    assert resolve_precision("bf16") == "bf16"


def test_a_gpu_that_is_not_to_be_used_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, present=True, has_bf16=True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert resolve_precision("auto") == "fp32"


def test_trained_parameters_are_those_that_a_checkpoint_holds(toy: Toy, tmp_path: Path) -> None:
    model, _ = open_model(toy.checkpoint, toy.config(tmp_path))
    saved = load_file(toy.checkpoint / "model.safetensors")
    assert model.num_parameters(only_trainable=True) == sum(weight.numel() for weight in saved.values())


def test_training_draws_from_several_sources_by_ratio(toy: Toy, tmp_path: Path) -> None:
    sources = [SourceConfig("mini", str(toy.data), ratio=3), SourceConfig("mini", str(toy.data), split="validate")]
    config = toy.config(tmp_path)
    config = replace(config, data=replace(config.data, sources=sources))
    mixture = training_dataset(
        config, *start_model(config, tower_dtype=torch.float32), read_training_clips(config.data), per_caption=False
    )
    assert isinstance(mixture, Mixture)
    validation = {clip.clip_id for clip in toy.clips("validate")}
    drawn = [mixture[index]["clip_id"] in validation for index in range(8)]
    assert drawn.count(True) == 2


def test_training_draws_from_shards(toy: Toy, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "shard.tar", "w") as shard:
        for clip in toy.clips("train")[:2]:
            (tmp_path / "caption.txt").write_text(clip.captions[0])
            shard.add(clip.video, f"{clip.clip_id}.mp4")
            shard.add(tmp_path / "caption.txt", f"{clip.clip_id}.txt")
    config = toy.config(tmp_path)
    config = replace(config, data=replace(config.data, sources=[SourceConfig("shards", str(tmp_path))]))
    mixture = training_dataset(
        config, *start_model(config, tower_dtype=torch.float32), read_training_clips(config.data), per_caption=True
    )
    item = mixture[0]
    assert item["pixel_values"].shape == (FRAMES, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert item["caption"] in {clip.captions[0] for clip in toy.clips("train")[:2]}
    # To workers that are not forked, it travels.
    assert torch.equal(pickle.loads(pickle.dumps(mixture))[0]["pixel_values"], item["pixel_values"])


def test_shards_without_a_root_are_a_user_error(toy: Toy, tmp_path: Path) -> None:
    config = toy.config(tmp_path)
    with pytest.raises(UserError, match="shards has no root"):
        read_training_clips(replace(config.data, sources=[SourceConfig("shards")]))

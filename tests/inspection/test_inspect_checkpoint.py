"""Inspecting checkpoints of every kind, with and without data."""

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from tiny_connectors import OPTIONS
from toy_run import FRAMES, Toy

from evlvideo.assembly.clips import read_clips
from evlvideo.assembly.datasets import video_dataset
from evlvideo.assembly.models import open_model
from evlvideo.config.loading import save_config
from evlvideo.errors import UserError
from evlvideo.files import read_json, write_json
from evlvideo.inference.extract_features import extract_features
from evlvideo.inspection.inspect_checkpoint import inspect_checkpoint
from evlvideo.inspection.records import ClipsSeen, Inspection, LayerMerging
from evlvideo.inspection.table import inspection_table
from evlvideo.models.tokens.prompt_statistics import prompt_spread

CLIPS = 4


def look(checkpoint: Path | str, *, clips: int = CLIPS, **asked: Any) -> Inspection:
    return inspect_checkpoint(str(checkpoint), clips=clips, **asked)


def clips_of(inspection: Inspection) -> ClipsSeen:
    assert inspection.clips is not None
    return inspection.clips


def printed(inspection: Inspection, width: int = 100) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(inspection_table(inspection))
    return console.export_text()


@pytest.fixture(scope="module")
def run(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, not to be changed."""
    return toy.finished_run(tmp_path_factory.mktemp("inspected") / "run")


def toy_data(toy: Toy) -> list[str]:
    return ["dataset=mini", f"root={toy.data}", f"num_frames={FRAMES}", "num_workers=0"]


def edit_weights(checkpoint: Path, name: str, change: Any) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    weights[name] = change(weights[name])
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})


def test_a_run_is_seen_on_its_own_validation_clips(toy: Toy, run: Path) -> None:
    seen = clips_of(look(run))
    assert (seen.source, seen.read_from, seen.clips, seen.bad) == ("mini:validate", "videos", 4, {})


def test_the_soft_prompts_are_those_that_the_model_makes(toy: Toy, run: Path) -> None:
    found = look(run)
    config = toy.config(run)
    model, processor = open_model(run, config)
    dataset = video_dataset(config.data, processor, read_clips(config.data, "validate"))
    with torch.no_grad():
        prompts = model.encode(torch.stack([dataset[index]["pixel_values"] for index in range(4)]))
    expected = prompt_spread(prompts, model.language_model.get_input_embeddings().weight)
    prompt = clips_of(found).prompt
    for name in ("between", "within", "norm", "words_norm"):
        assert getattr(prompt, name) == pytest.approx(getattr(expected, name), rel=1e-5)
    assert found.weights.words_norm == prompt.words_norm


def test_batches_and_how_many_there_are_make_no_difference(toy: Toy, run: Path) -> None:
    """The last batch has one clip."""
    data = [*toy_data(toy), "generation.batch_size=3"]
    whole, cut = (clips_of(look(run, data=given)) for given in (toy_data(toy), data))
    assert [layer.name for layer in whole.layers] == [layer.name for layer in cut.layers]
    assert cut.prompt.between == pytest.approx(whole.prompt.between, rel=1e-4)


@pytest.mark.parametrize("connector", ["tomeformer", *OPTIONS])
def test_every_connector_is_seen_step_by_step(toy: Toy, tmp_path: Path, connector: str) -> None:
    options = {} if connector == "tomeformer" else {"connector": connector, "connector_options": OPTIONS[connector]}
    found = look(toy.finished_run(tmp_path / "run", **options))
    layers = clips_of(found).layers
    assert (layers[0].name, layers[-1].name) == ("vision_tower", "language_projection")
    assert all(layer.spread.norm > 0 for layer in layers)
    assert (clips_of(found).merged is not None) == (connector == "tomeformer") == bool(found.merging)
    assert "Verdict" in printed(found)


def test_merging_is_counted_layer_by_layer(run: Path) -> None:
    found = look(run)
    assert found.merging == [LayerMerging(17, 13), LayerMerging(13, 9)]
    merged = clips_of(found).merged
    assert merged is not None
    assert merged.mean == pytest.approx(17 / 9)
    assert 2 <= merged.largest <= 17 - 8
    assert 0 <= merged.single < 1
    assert [layer.tokens for layer in clips_of(found).layers] == [FRAMES * 17, 17, 17, 17, 13, 9, 9]


def test_half_precision_says_the_same(run: Path) -> None:
    found, half = look(run), look(run, data=["training.precision=bf16"])
    assert {part.name: part.dtype for part in half.weights.parts}["vision_tower"] == "bfloat16"
    assert clips_of(half).prompt.between == pytest.approx(clips_of(found).prompt.between, rel=0.1)
    assert clips_of(half).prompt.norm == pytest.approx(clips_of(found).prompt.norm, rel=0.05)
    assert half.weights.words_norm == pytest.approx(found.weights.words_norm, rel=0.01)


def test_features_say_the_same_as_videos(toy: Toy, run: Path, tmp_path: Path) -> None:
    data = {"features": str(tmp_path / "features"), "train_sampling": "uniform", "augment": False}
    config = toy.config(tmp_path / "other", data=data)
    extract_features(config, ["validate"])
    save_config(config, tmp_path / "config.yaml")
    of_features, of_videos = clips_of(look(run, data=[str(tmp_path / "config.yaml")])), clips_of(look(run))
    assert of_features.read_from == "features"
    assert [layer.name for layer in of_features.layers] == [layer.name for layer in of_videos.layers]
    assert of_features.prompt.between == pytest.approx(of_videos.prompt.between, rel=1e-4)


def test_a_checkpoint_inside_a_run_has_the_data_of_its_run(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    inside = tmp_path / "run" / "checkpoints" / "checkpoint-2"
    shutil.copytree(run, inside, ignore=shutil.ignore_patterns("config.yaml"))
    assert clips_of(look(inside)).source == "mini:validate"


def test_of_an_unfinished_run_the_newest_checkpoint_is_taken(run: Path, tmp_path: Path) -> None:
    for step in (2, 10):
        inside = tmp_path / "run" / "checkpoints" / f"checkpoint-{step}"
        shutil.copytree(run, inside, ignore=shutil.ignore_patterns("config.yaml"))
        write_json(inside / "trainer_state.json", {"global_step": step})
    shutil.copy(run / "config.yaml", tmp_path / "run")
    assert look(tmp_path / "run").checkpoint == str(inside)


def test_a_bare_checkpoint_is_seen_without_data(toy: Toy) -> None:
    found = look(toy.checkpoint)
    assert found.clips is None
    assert "takes clips: --data" in found.findings[0].text


def test_a_bare_checkpoint_is_seen_on_data_by_name(toy: Toy) -> None:
    assert clips_of(look(toy.checkpoint, data=toy_data(toy), split="test")).source == "mini:test"


def test_clips_are_at_equal_distances(toy: Toy, run: Path) -> None:
    assert clips_of(look(run, split="train", clips=3)).clips == 3
    assert clips_of(look(run, split="train", clips=100)).clips == len(toy.clips("train"))


def test_the_model_stays_as_it_was_saved_whatever_the_config_changes(toy: Toy, run: Path, tmp_path: Path) -> None:
    save_config(toy.config(tmp_path, model={"fusion": "concat"}), tmp_path / "config.yaml")
    assert look(run, data=[str(tmp_path / "config.yaml")]).settings["frames"] == "fusion mean"


@pytest.fixture
def copied(run: Path, tmp_path: Path) -> Path:
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def test_a_collapse_is_found_where_it_is(copied: Path) -> None:
    edit_weights(copied, "connector.bert.encoder.layer.1.output.LayerNorm.weight", lambda weight: 1e-5 * weight)
    edit_weights(copied, "connector.bert.encoder.layer.1.output.LayerNorm.bias", lambda weight: weight + 1)
    found = look(copied)
    assert found.has_faults
    assert "The connector has collapsed between layer 1 and layer 2." in found.findings[0].text


def test_weights_that_are_not_finite_are_found(copied: Path) -> None:
    edit_weights(copied, "connector.projection.weight", lambda weight: weight.fill_(torch.nan))
    found = look(copied)
    assert [finding.is_fault for finding in found.findings][:2] == [True, True]
    assert "of the projections" in found.findings[0].text
    assert "nan" in printed(found)


def test_what_was_found_is_written_as_json(copied: Path, tmp_path: Path) -> None:
    edit_weights(copied, "connector.projection.weight", lambda weight: weight.fill_(torch.nan))
    look(copied).save(tmp_path / "found.json")
    content = read_json(tmp_path / "found.json")
    assert content["clips"]["layers"][-1]["spread"]["between"] is None
    assert content["findings"][0]["is_fault"] is True


def test_bad_clips_are_named_and_left_out(toy: Toy, run: Path, tmp_path: Path) -> None:
    shutil.copytree(toy.data, tmp_path / "data")
    bad = toy.clips("validate")[1]
    (tmp_path / "data" / "videos" / bad.video.name).write_bytes(b"no video")
    found = look(run, data=[f"root={tmp_path / 'data'}"])
    assert clips_of(found).clips == 3
    assert list(clips_of(found).bad) == [bad.clip_id]
    assert any(bad.clip_id in finding.text for finding in found.findings)


def test_nothing_but_bad_clips_is_a_user_error(toy: Toy, run: Path, tmp_path: Path) -> None:
    shutil.copytree(toy.data, tmp_path / "data")
    for video in (tmp_path / "data" / "videos").iterdir():
        video.write_bytes(b"")
    with pytest.raises(UserError, match="None of 4 clips could be read"):
        look(run, data=[f"root={tmp_path / 'data'}"])


def test_data_of_a_run_that_are_gone_leave_the_weights(
    toy: Toy, copied: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = toy.config(copied)
    save_config(replace(config, data=replace(config.data, root=str(tmp_path / "gone"))), copied / "config.yaml")
    assert look(copied).clips is None
    assert "only weights are inspected" in caplog.text
    with pytest.raises(UserError):
        look(copied, split="test")


def test_lora_and_gates_are_printed(toy: Toy, tmp_path: Path) -> None:
    changes = {"lora_r": 2, "contextualizer": "merged", "fusion": "concat", "frame_positions": True}
    text = printed(look(toy.finished_run(tmp_path / "run", open_gates=True, **changes)))
    assert "LoRA changes its 4 layers by 0 % of their norm" in text
    assert "Gates: contextualizer 1 (frame positions" in text
    assert "fusion concat, contextualizer merged with frame positions" in text
    assert "9 a frame" in text


@pytest.mark.parametrize("width", [80, 100])
def test_the_table_fits_the_terminal(run: Path, width: int) -> None:
    assert max(map(len, printed(look(run), width).splitlines())) <= width


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"clips": 0}, "The number of clips is 0; it must be at least 1"),
        ({"split": "tset"}, "no split 'tset'"),
        ({"data": ["nowhere.yaml"]}, "nowhere.yaml cannot be read"),
        ({"data": ["a.yaml", "b.yaml"]}, "names 2 configs"),
        ({"data": ["datasett=mini"]}, "did you mean data.dataset"),
    ],
)
def test_mistakes_are_sentences(run: Path, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        look(run, **asked)


def test_a_split_of_nothing_asks_for_data(toy: Toy) -> None:
    with pytest.raises(UserError, match="is of no run, so that a split needs data"):
        look(toy.checkpoint, split="test")


def test_a_directory_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no checkpoint"):
        look(tmp_path)

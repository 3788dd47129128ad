import base64
import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from toy_run import FRAMES, IMAGE_SIZE, Toy

from evlvideo.assembly.models import open_model
from evlvideo.comparison.compare import compare
from evlvideo.comparison.page import inspect_models as module
from evlvideo.comparison.page.inspect_models import inspect_models
from evlvideo.comparison.rows.system import System
from evlvideo.errors import UserError
from evlvideo.results.run_directory import run_config

FORMS = {
    "mean": {"fusion": "mean"},
    "in_tower": {"fusion": "mean", "contextualizer": "in_tower", "frame_positions": True},
    "merged": {"fusion": "mean_tokens", "contextualizer": "merged"},
}
TOKENS, MERGED = 17, 9
"""Of a frame of the toy: 16 patches and a class token, of which each of two layers merges 4."""


def system(directory: Path | None, name: str = "") -> System:
    return System(name or directory.name, directory, None, {}, {}, {}, None)


@pytest.fixture(scope="module")
def systems(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> list[System]:
    root = tmp_path_factory.mktemp("inside")
    return [system(toy.finished_run(root / name, open_gates=True, **form)) for name, form in FORMS.items()]


@pytest.fixture(scope="module")
def seen(systems, toy: Toy):
    return inspect_models(systems, toy.clips("test")[:2])


def test_every_system_is_shown_on_every_clip(seen, toy):
    assert seen.remarks == ()
    assert [clip.clip_id for clip in seen.clips] == [clip.clip_id for clip in toy.clips("test")[:2]]
    for clip in seen.clips:
        assert [(insight.system, insight.name) for insight in clip.views] == list(enumerate(FORMS))
        assert len(clip.frames) == FRAMES


def test_the_frames_are_those_that_the_models_get(systems, toy, monkeypatch):
    pictures = []
    encode_jpeg = module.encode_jpeg
    monkeypatch.setattr(module, "encode_jpeg", lambda frame: pictures.append(frame) or encode_jpeg(frame))
    clip = toy.clips("test")[0]
    inspect_models(systems[:1], [clip])
    from evlvideo.data.video.decode import decode_frames
    from evlvideo.data.video.sampling import uniform

    frames = decode_frames(clip.video, lambda count, rate: uniform(count, rate, FRAMES), IMAGE_SIZE).frames
    assert np.abs(np.stack(pictures).astype(int) - frames).max() <= 1


def test_merged_tokens_are_counted_and_painted(seen):
    for clip in seen.clips:
        mean, _, merged = (insight.merging for insight in clip.views)
        assert (mean.before, mean.after, mean.averaged) == (TOKENS, MERGED, True)
        assert (merged.before, merged.after, merged.averaged) == (TOKENS, MERGED, False)
        assert len(mean.painted) == len(merged.painted) == FRAMES
        for picture in merged.painted:
            data = base64.b64decode(picture.address.removeprefix("data:image/png;base64,"))
            middles = np.asarray(Image.open(io.BytesIO(data)))[20::40, 20::40].reshape(-1, 3)
            assert 1 < len(np.unique(middles, axis=0)) < TOKENS - 1


def test_attention_is_shown_where_there_is_some(seen):
    for clip in seen.clips:
        mean, in_tower, merged = (insight.attention for insight in clip.views)
        assert mean is None
        assert (in_tower.form, len(in_tower.rows), in_tower.gate) == ("in_tower", FRAMES, 1.0)
        assert (merged.form, len(merged.rows), merged.gate) == ("merged", MERGED, 1.0)
        for attention in (in_tower, merged):
            assert sum(attention.shares) == pytest.approx(1)
            assert attention.highest == max(share for row in attention.rows for share in row)


def test_looking_changes_nothing(systems, toy):
    model, _ = open_model(systems[1].directory, run_config(systems[1].directory), language_model=False)
    pixels = torch.linspace(-1, 1, FRAMES * 3 * IMAGE_SIZE**2).view(1, FRAMES, 3, IMAGE_SIZE, IMAGE_SIZE)
    frames = [np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)] * FRAMES
    with torch.no_grad():
        before = model.encode(pixels)
        module.inside(model, pixels, frames)
        assert torch.equal(model.encode(pixels), before)


@pytest.mark.parametrize("form", [FORMS["merged"], {"fusion": "concat", "lora_r": 2}])
def test_a_model_without_its_language_model_gives_the_same_soft_prompt(toy, tmp_path, form):
    directory = toy.finished_run(tmp_path / "run", open_gates=True, **form)
    whole, _ = open_model(directory, run_config(directory))
    without, _ = open_model(directory, run_config(directory), language_model=False)
    assert all(weight.is_meta for weight in without.language_model.parameters())
    pixels = torch.linspace(-1, 1, FRAMES * 3 * IMAGE_SIZE**2).view(1, FRAMES, 3, IMAGE_SIZE, IMAGE_SIZE)
    with torch.no_grad():
        assert torch.equal(without.encode(pixels), whole.encode(pixels.to(whole.device)).cpu())


def test_an_image_has_no_attention_over_frames(systems, toy, monkeypatch):
    read = module.run_config

    def one_frame(directory):
        config = read(directory)
        return replace(config, data=replace(config.data, num_frames=1))

    monkeypatch.setattr(module, "run_config", one_frame)
    (clip,) = inspect_models(systems[1:2], toy.clips("test")[:1]).clips
    assert clip.views[0].attention is None
    assert len(clip.views[0].merging.painted) == 1


def test_systems_without_a_model_here_are_passed_over(toy):
    assert inspect_models([system(None, "people")], toy.clips("test")[:1]) == module.Inspection()


def test_what_does_not_open_leaves_the_others_and_says_why(systems, toy, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    broken = tmp_path / "broken"
    shutil.copytree(systems[0].directory, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    found = inspect_models([system(empty), systems[0], system(broken)], toy.clips("test")[:1])
    assert [insight.name for insight in found.clips[0].views] == ["mean"]
    assert len(found.remarks) == 2
    assert found.remarks[0].startswith("empty is not shown from the inside: ")
    assert "empty holds no config.yaml" in found.remarks[0]
    assert "broken is not shown from the inside: The weights" in found.remarks[1]


def test_what_nobody_foresaw_is_a_remark_too(systems, toy, monkeypatch, caplog):
    def fail(*arguments):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(module, "inside", fail)
    found = inspect_models(systems[:1], toy.clips("test")[:1])
    assert found == module.Inspection((), ("mean is not shown from the inside: out of memory",))
    assert "no images of mean" in caplog.text


def test_images_end_where_the_page_is_full(systems, toy, monkeypatch):
    monkeypatch.setattr(module, "IMAGE_BYTES", 20_000)
    found = inspect_models(systems, toy.clips("test")[:4])
    shown = sum(len(clip.views) for clip in found.clips)
    assert 0 < shown < 12
    assert found.remarks == ("Not all systems are shown on all of these clips, which would make the page too large.",)


def test_clips_that_cannot_be_decoded_are_passed_over(systems, toy, tmp_path):
    gone = replace(toy.clips("test")[0], clip_id="gone", video=tmp_path / "gone.mp4")
    found = inspect_models(systems[:1], [gone, toy.clips("test")[1]])
    assert [clip.clip_id for clip in found.clips] == [toy.clips("test")[1].clip_id]
    alone = inspect_models(systems[:1], [gone])
    assert alone.clips == ()
    assert "gone.mp4" in alone.remarks[0]


def test_a_comparison_shows_the_models_of_its_runs(make_run, toy, tmp_path):
    clips = [clip.clip_id for clip in toy.clips("test")]
    of_clips = {"captions": dict.fromkeys(clips, "a ball"), "per_clip": {clip: {"cider": 0.5} for clip in clips}}
    runs = [make_run(name, dataset="mini", **of_clips) for name in FORMS]
    for run, form in zip(runs, FORMS.values(), strict=True):
        toy.finished_run(run, open_gates=True, **form)
    page = compare(runs, out=tmp_path / "out", inspected_clips=2).report.read_text()
    assert page.count('<figure class="inside">') == 2
    assert page.count("by token") == 2 * len(FORMS) * FRAMES
    assert page.count("<video ") == len(clips)
    without = compare(runs, out=tmp_path / "without", inspected_clips=0).report.read_text()
    assert 'id="inside"' not in without


def test_fewer_than_no_images_are_refused(make_run, tmp_path):
    with pytest.raises(UserError, match="-1 clips; give 0 or more"):
        compare([make_run("mean")], out=tmp_path / "out", inspected_clips=-1)


PRUNING = {"begin": [1], "keep": [0.5]}


def pixels_of(picture) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.address.partition(",")[2]))))


@pytest.mark.parametrize("fold", [True, False])
def test_a_tower_that_prunes_is_shown_and_its_merged_patches_too(toy, tmp_path, fold):
    run = system(toy.finished_run(tmp_path / "run", fusion="mean_tokens", pruning=PRUNING | {"fold": fold}, merge_r=2))
    seen = inspect_models([run], toy.clips("test")[:1])
    assert seen.remarks == ()
    ((view,),) = (clip.views for clip in seen.clips)
    assert (view.pruning.patches, view.pruning.left, view.pruning.blocks) == (16, (8,), (1,))
    assert view.pruning.guide == "class"
    assert len(view.pruning.painted) == len(view.merging.painted) == FRAMES
    assert pixels_of(view.pruning.painted[0]).shape == (160, 160, 3)
    assert (view.merging.before, view.merging.after) == ((10, 6) if fold else (9, 5))
    middles = pixels_of(view.merging.painted[0])[20::40, 20::40].reshape(-1, 3)
    assert 1 < len(np.unique(middles, axis=0)) <= view.merging.after + 1


def test_a_system_that_drafts_is_shown_as_it_prunes_by_its_draft(toy, tmp_path):
    from evlvideo.training.run import train

    run = train(toy.config(tmp_path / "run", model={"fusion": "mean_tokens", "pruning": PRUNING | {"guide": "draft"}}))
    ((view,),) = (clip.views for clip in inspect_models([system(run)], toy.clips("test")[:1]).clips)
    assert view.pruning.guide == "draft"


def test_pruned_patches_are_on_the_page(toy, tmp_path):
    from evlvideo.evaluation.evaluate import evaluate

    run = toy.finished_run(tmp_path / "run", fusion="mean_tokens", pruning=PRUNING)
    evaluate(run, metrics=("cider",))
    compare([run], out=tmp_path / "report", split="mini:test", inspected_clips=1)
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "pruned before block 1: 8 of 16 patches left, guided by class" in page
    assert "patches of frame 1 left after each prune" in page
    assert "pruned by" in page

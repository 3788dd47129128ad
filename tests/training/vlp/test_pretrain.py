"""Runs of vision-language pre-training on a few clips: their files, resuming, and what is refused."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_shards import samples, write_shard
from tiny_vlp import tiny_run
from transformers import AutoTokenizer

from evlvideo.config.data import SourceConfig
from evlvideo.config.vlp import VlpConfig
from evlvideo.errors import Interrupted, UserError
from evlvideo.inference.embed_run import embed_run
from evlvideo.models.vlp.hosts.files import open_host
from evlvideo.results.retrieval.features import RetrievalFeatures
from evlvideo.training.vlp.loop import Loop
from evlvideo.training.vlp.run import pretrain

HOSTS = ("blip", "albef", "clip")


@pytest.fixture(scope="module")
def runs(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("runs")
    return {host: pretrain(tiny_run(clips, directory / host, host)) for host in HOSTS}


def lines(run: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in entry.items() if name != "training_seconds"} for entry in found]


@pytest.mark.parametrize("host", HOSTS)
def test_a_run_writes_its_model_its_log_and_its_summary(host: str, runs: dict[str, Path]) -> None:
    run = runs[host]
    open_host(str(run), host)
    assert AutoTokenizer.from_pretrained(run)("a circle")["input_ids"]
    losses = {"contrast"} if host == "clip" else {"contrast", "matching", "language"}
    log = lines(run)
    assert [entry["step"] for entry in log] == [2, 3, 4, 4]
    assert losses | {"loss", "learning_rate"} <= log[1].keys()
    assert {f"validation_{name}" for name in losses | {"loss", "recall", "text_to_image_r1"}} <= log[0].keys()
    assert all(np.isfinite(value) for entry in log for value in entry.values())
    summary = json.loads((run / "training.json").read_text())
    assert (summary["steps"], summary["host"]) == (4, host)
    best = load_file(run / "checkpoints" / f"checkpoint-{summary['best_step']}" / "model.safetensors")
    written = load_file(run / "model.safetensors")
    assert all(torch.equal(best[name], written[name]) for name in best)


@pytest.mark.parametrize("host", ["blip", "albef"])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    host: str, clips: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[host], run)
    shutil.rmtree(run / "checkpoints" / "checkpoint-4")
    pretrain(tiny_run(clips, run, host), resume=True)
    assert lines(run) == lines(runs[host])
    for name in ("model.safetensors", "pretraining.safetensors"):
        before, after = (load_file(path / "checkpoints" / "checkpoint-4" / name) for path in (runs[host], run))
        assert before.keys() == after.keys()
        assert [key for key in before if not torch.equal(before[key], after[key])] == []


def test_a_run_that_a_signal_stopped_between_log_lines_goes_on_as_if_it_had_not(
    clips: Path, runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step = Loop._take_step

    def signalled(loop: Loop, batches: list[dict[str, Any]]) -> Any:
        norm = take_step(loop, batches)
        signal.raise_signal(signal.SIGTERM)
        return norm

    config = tiny_run(clips, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_take_step", signalled)
        with pytest.raises(Interrupted, match="Stopped at step 1 of 4, with a checkpoint"):
            pretrain(config)
    assert not (tmp_path / "run" / "training.json").exists()
    pretrain(config, resume=True)
    assert lines(tmp_path / "run") == lines(runs["blip"])


def test_a_run_in_bf16_learns_in_float32_weights(clips: Path, tmp_path: Path) -> None:
    training = {"precision": "bf16", "max_steps": 1, "learning_rate": 1e-5}
    for host in HOSTS:
        run = pretrain(tiny_run(clips, tmp_path / host, host, training=training))
        assert np.isfinite(lines(run)[0]["loss"])
        assert {weight.dtype for weight in load_file(run / "model.safetensors").values()} == {torch.float32}


def test_a_finished_run_is_finished_again(clips: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs["clip"], run)
    (run / "training.json").unlink()
    pretrain(tiny_run(clips, run, "clip"), resume=True)
    assert (run / "training.json").is_file()
    assert lines(run) == lines(runs["clip"])


def test_a_run_is_not_overwritten_and_not_resumed_as_another(clips: Path, runs: dict[str, Path]) -> None:
    config = tiny_run(clips, runs["clip"], "clip")
    with pytest.raises(UserError, match="already holds a run"):
        pretrain(config)
    other = replace(config, training=replace(config.training, learning_rate=0.5))
    with pytest.raises(UserError, match=r"training\.learning_rate was 0\.001 and is 0\.5"):
        pretrain(other, resume=True)


def test_a_broken_checkpoint_is_named(clips: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs["clip"], run)
    file = run / "checkpoints" / "checkpoint-4" / "training_state.pt"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match="checkpoint-4 cannot be resumed from"):
        pretrain(tiny_run(clips, run, "clip"), resume=True)


def test_the_oldest_checkpoints_are_removed_and_the_best_is_kept(clips: Path, tmp_path: Path) -> None:
    training = {"eval_steps": 1, "keep_checkpoints": 1}
    run = pretrain(tiny_run(clips, tmp_path / "run", "clip", training=training))
    best = json.loads((run / "training.json").read_text())["best_step"]
    left = {int(path.name.rpartition("-")[2]) for path in (run / "checkpoints").iterdir()}
    assert left == {4, best}


@pytest.mark.parametrize(
    ("host", "sections", "message"),
    [
        ("blip", {"model": {"pruning": {"begin": [3], "blocks_ahead": [2], "keep": [0.5]}}}, "looks ahead to block 4"),
        ("blip", {"model": {"text_width": 16}}, "The text has 16 channels and the tower 32"),
        ("blip", {"model": {"pruning": {"begin": [1], "keep": [0.01]}}}, "a prune would keep none"),
        ("blip", {"model": {"pruning": {"guide": "caption"}}}, "guide is 'caption'"),
        ("albef", {"model": {"checkpoint": "weights.pth"}}, "has no tokenizer"),
        ("clip", {"model": {"checkpoint": "nowhere/at-all", "tokenizer": "no/where"}}, "cannot be opened"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    host: str, sections: dict[str, Any], message: str, clips: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        pretrain(tiny_run(clips, tmp_path / "run", host, **sections))
    assert not (tmp_path / "run").exists()


def test_accumulation_gradient_checkpointing_and_weights_of_losses(clips: Path, tmp_path: Path) -> None:
    training = {"gradient_accumulation_steps": 2, "batch_size": 2, "gradient_checkpointing": True, "max_steps": 2}
    config = tiny_run(
        clips,
        tmp_path / "run",
        "blip",
        training={**training, "max_grad_norm": 1.0, "decayed": "matrices"},
        losses={"matching": 0.0, "language": 2.0},
        model={"pruning": None, "frames": "pool"},
    )
    log = lines(pretrain(config))
    assert "matching" not in log[-2]
    assert log[-2]["loss"] == pytest.approx(log[-2]["contrast"] + 2 * log[-2]["language"])
    assert log[-2]["grad_norm"] > 0


@pytest.mark.parametrize(
    ("host", "guide", "rerank"), [("blip", "class", 2), ("albef", "none", 99), ("clip", "none", 0)]
)
def test_features_for_retrieval(host: str, guide: str, rerank: int, runs: dict[str, Path], tmp_path: Path) -> None:
    changes = [f"evaluation.guide={guide}", f"evaluation.rerank={rerank}"]
    file = embed_run(runs[host], "test", overrides=changes, out=tmp_path / "features.safetensors")
    features = RetrievalFeatures.read(file)
    assert features.images.shape == (4, 16)
    assert features.texts.shape == (len(features.owner), 16)
    np.testing.assert_allclose(np.linalg.norm(load_file(file)["images"], axis=1), 1, rtol=1e-5)
    assert features.text_ids[0] == f"{features.image_ids[0]}#0"
    if not rerank:
        assert features.image_matching is None
        return
    assert features.image_matching is not None
    assert features.text_matching is not None
    assert features.text_matching.scores.shape == (len(features.texts), min(rerank, 4))
    best = (features.texts @ features.images.T).argmax(axis=1)
    assert (features.text_matching.candidates[:, 0] == best).all()
    # A pair has the same score from both sides.
    pairs = {
        (image, text): score
        for image, (texts, scores) in enumerate(
            zip(features.image_matching.candidates, features.image_matching.scores, strict=True)
        )
        for text, score in zip(texts, scores, strict=True)
    }
    shared = [
        (pairs[image, text], score)
        for text, (images, scores) in enumerate(
            zip(features.text_matching.candidates, features.text_matching.scores, strict=True)
        )
        for image, score in zip(images, scores, strict=True)
        if (image, text) in pairs
    ]
    assert shared
    np.testing.assert_allclose(*zip(*shared, strict=True), rtol=1e-4, atol=1e-5)


def test_shards_are_trained_on_beside_other_clips(clips: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    write_shard(tmp_path / "shards" / "00000.tar", samples(range(8)))
    sources = [
        SourceConfig(dataset="mini", root=str(clips), ratio=1),
        SourceConfig(dataset="shards", root=str(tmp_path / "shards"), ratio=3),
    ]
    data = {"sources": sources, "num_frames": 1}
    config = tiny_run(clips, tmp_path / "run", data=data, model={"tokenizer": str(runs["blip"])})
    assert np.isfinite(lines(pretrain(config))[-1]["validation_loss"])
    nameless = tiny_run(clips, tmp_path / "other", data=data)
    with pytest.raises(UserError, match="words of shards are not read for a tokenizer"):
        pretrain(nameless)


def test_texts_longer_than_a_checkpoints_positions_are_refused(
    clips: Path, runs: dict[str, Path], tmp_path: Path
) -> None:
    model = {"checkpoint": str(runs["clip"]), "max_text_tokens": 78}
    with pytest.raises(UserError, match="max_text_tokens is 78; the checkpoint has 77 positions"):
        pretrain(tiny_run(clips, tmp_path / "run", "clip", model=model))


def test_what_is_no_run_cannot_embed(tmp_path: Path, clips: Path, runs: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=r"holds no config\.yaml"):
        embed_run(tmp_path, "test")
    shutil.copy(runs["clip"] / "config.yaml", tmp_path)
    with pytest.raises(UserError, match="holds no model yet"):
        embed_run(tmp_path, "test")


def test_a_trained_model_starts_another_run(clips: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    config: VlpConfig = tiny_run(
        clips,
        tmp_path / "run",
        "blip",
        model={"checkpoint": str(runs["blip"]), "image_size": 40},
        training={"max_steps": 1, "learning_rate": 1e-8, "min_learning_rate": 0.0, "warmup_learning_rate": 0.0},
    )
    run = pretrain(config)
    before, after = (load_file(path / "model.safetensors") for path in (runs["blip"], run))
    name = "text_encoder.embeddings.word_embeddings.weight"
    assert torch.equal(before[name], after[name])
    assert after["vision_model.embeddings.position_embedding"].shape == (1, 26, 32)

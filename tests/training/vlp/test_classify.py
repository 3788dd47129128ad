"""Runs that train a classifier of statements: their files, resuming, evaluation, and what is refused."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_vlp import PRUNING, tiny_model, tiny_run

from evlvideo.assembly.classifier import open_classifier
from evlvideo.config.vlp import (
    ClassifierConfig,
    ClassifierEvaluationConfig,
    DistillationConfig,
    StatementDataConfig,
    VlpTrainingConfig,
)
from evlvideo.errors import Interrupted, UserError
from evlvideo.evaluation.classification import evaluate_classifier
from evlvideo.mini.images.statements import build_mini_statements
from evlvideo.training.vlp.classify import train_classifier
from evlvideo.training.vlp.loop import Loop
from evlvideo.training.vlp.run import pretrain

TASKS = ("entailment", "nlvr2")
SIZES = {"train": 5, "validate": 2, "test": 3}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("statements")
    return {task: build_mini_statements(task, root / task, progress=False, sizes=SIZES) for task in TASKS}


@pytest.fixture(scope="module")
def runs(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("runs")
    return {task: train_classifier(tiny_classifier_run(data, directory / task, task)) for task in TASKS}


def tiny_classifier_run(
    data: dict[str, Path], output_dir: Path, task: str = "entailment", **sections: dict[str, Any]
) -> ClassifierConfig:
    """A run of four short steps, pruned by the statement, with changes by section."""
    config = ClassifierConfig(
        output_dir=str(output_dir),
        task=task,
        model=tiny_model("albef", max_text_tokens=14),
        losses=DistillationConfig(momentum=0.9, alpha_steps=3),
        data=StatementDataConfig(root=str(data[task]), horizontal_flip=0.0, num_workers=0),
        training=VlpTrainingConfig(
            max_steps=4, batch_size=4, learning_rate=1e-3, warmup_steps=1, eval_steps=2, log_steps=3
        ),
        evaluation=ClassifierEvaluationConfig(batch_size=5),
    )
    return replace(config, **{name: replace(getattr(config, name), **changes) for name, changes in sections.items()})


def lines(run: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in entry.items() if name != "training_seconds"} for entry in found]


@pytest.mark.parametrize("task", TASKS)
def test_a_run_writes_its_model_its_log_and_its_summary(task: str, runs: dict[str, Path]) -> None:
    run = runs[task]
    log = lines(run)
    assert [entry["step"] for entry in log] == [2, 3, 4, 4]
    assert log[0]["validation_accuracy_low"] <= log[0]["validation_accuracy"] <= log[0]["validation_accuracy_high"]
    summary = json.loads((run / "training.json").read_text())
    assert (summary["stage"], summary["task"], summary["steps"]) == ("classify", task, 4)
    assert summary["best_accuracy"] == max(entry.get("validation_accuracy", 0) for entry in log)
    best = load_file(run / "checkpoints" / f"checkpoint-{summary['best_step']}" / "model.safetensors")
    written = load_file(run / "model.safetensors")
    assert all(torch.equal(best[name], written[name]) for name in best)


@pytest.mark.parametrize("task", TASKS)
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(
    task: str, data: dict[str, Path], runs: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs[task], run)
    shutil.rmtree(run / "checkpoints" / "checkpoint-4")
    train_classifier(tiny_classifier_run(data, run, task), resume=True)
    assert lines(run) == lines(runs[task])
    for name in ("model.safetensors", "pretraining.safetensors"):
        before, after = (load_file(path / "checkpoints" / "checkpoint-4" / name) for path in (runs[task], run))
        assert before.keys() == after.keys()
        assert [key for key in before if not torch.equal(before[key], after[key])] == []


def test_a_run_that_a_signal_stopped_goes_on_as_if_it_had_not(
    data: dict[str, Path], runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step = Loop._take_step

    def signalled(loop: Loop, batches: list[dict[str, Any]]) -> Any:
        norm = take_step(loop, batches)
        signal.raise_signal(signal.SIGTERM)
        return norm

    config = tiny_classifier_run(data, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_take_step", signalled)
        with pytest.raises(Interrupted, match="Stopped at step 1 of 4, with a checkpoint"):
            train_classifier(config)
    train_classifier(config, resume=True)
    assert lines(tmp_path / "run") == lines(runs["entailment"])


@pytest.mark.parametrize("task", TASKS)
def test_evaluation_writes_every_prediction_and_the_accuracy(
    task: str, runs: dict[str, Path], tmp_path: Path, data: dict[str, Path]
) -> None:
    file, result = evaluate_classifier(runs[task], "test", out=tmp_path / "result.json")
    written = json.loads(file.read_text())
    predictions = written.pop("predictions")
    assert written == result
    entries = json.loads((data[task] / "test.json").read_text())
    assert [(one["sentence"], one["label"]) for one in predictions] == [(e["sentence"], e["label"]) for e in entries]
    right = sum(one["label"] == one["prediction"] for one in predictions)
    assert result["accuracy"] == pytest.approx(right / len(entries))
    assert result["most_frequent_label"] == pytest.approx(1 / (3 if task == "entailment" else 2))
    assert all(sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5) for one in predictions)


def test_the_best_checkpoint_scores_as_its_validation_did(runs: dict[str, Path], tmp_path: Path) -> None:
    _, result = evaluate_classifier(runs["nlvr2"], "validate", out=tmp_path / "result.json")
    assert result["accuracy"] == json.loads((runs["nlvr2"] / "training.json").read_text())["best_accuracy"]


def test_statements_without_images_are_counted_in_evaluation(
    data: dict[str, Path], runs: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(data["entailment"], tmp_path / "data")
    (tmp_path / "data" / "images" / "test00000.jpg").unlink()
    file, result = evaluate_classifier(runs["entailment"], "test", overrides=[f"data.root={tmp_path / 'data'}"])
    assert file == runs["entailment"] / "predictions" / "test.json"
    assert (result["statements"], result["left_out"], result["missing_images"]) == (6, 3, 1)
    shutil.rmtree(tmp_path / "data" / "images")
    with pytest.raises(UserError, match=r"All 3 images .* are missing .* set data\.image_root"):
        evaluate_classifier(runs["entailment"], "test", overrides=[f"data.root={tmp_path / 'data'}"])


def test_a_broken_image_is_replaced_in_training_and_named_in_evaluation(
    data: dict[str, Path], runs: dict[str, Path], tmp_path: Path
) -> None:
    root = {"nlvr2": tmp_path / "data"}
    shutil.copytree(data["nlvr2"], root["nlvr2"])
    for name in ("train00000-img1.jpg", "test00001-img0.jpg"):
        (root["nlvr2"] / "images" / name).write_bytes(b"no image")
    run = train_classifier(tiny_classifier_run(root, tmp_path / "run", "nlvr2"))
    assert (run / "model.safetensors").is_file()
    with pytest.raises(UserError, match=r"test00001-img0\.jpg"):
        evaluate_classifier(run, "test")


@pytest.mark.parametrize("task", TASKS)
def test_a_pre_trained_albef_starts_a_classifier(task: str, clips: Path, data: dict[str, Path], tmp_path: Path) -> None:
    albef = pretrain(tiny_run(clips, tmp_path / "albef", "albef", training={"max_steps": 1, "eval_steps": 1}))
    rates = {"learning_rate": 1e-9, "min_learning_rate": 0.0, "warmup_learning_rate": 0.0}
    model = {"checkpoint": str(albef), "image_size": 40, "pruning": None}
    config = tiny_classifier_run(data, tmp_path / "run", task, model=model, training={"max_steps": 1, **rates})
    before, after = load_file(albef / "model.safetensors"), load_file(train_classifier(config) / "model.safetensors")
    for name in ("layer.0.attention", "layer.1.crossattention"):
        for key in (key for key in before if name in key):
            assert torch.equal(before[key], after[key])
    if task == "nlvr2":
        last = "text_encoder.encoder.layer.2.crossattention.self.value.weight"
        assert torch.equal(before[last], after[last.replace("layer.2", "layer.3")])
        assert torch.equal(before[last], after[last.replace("layer.2", "layer.4")])
    again = tiny_classifier_run(data, tmp_path / "again", task, model={"checkpoint": str(tmp_path / "run")})
    with pytest.raises(UserError, match="is a classifier already"):
        train_classifier(again)


def test_a_run_without_a_teacher_without_pruning_and_in_bf16(data: dict[str, Path], tmp_path: Path) -> None:
    config = tiny_classifier_run(
        data,
        tmp_path / "run",
        losses={"alpha": 0.0},
        model={"pruning": None},
        training={"max_steps": 1, "precision": "bf16", "gradient_accumulation_steps": 2, "batch_size": 2,
                  "gradient_checkpointing": True},
    )  # fmt: skip
    run = train_classifier(config)
    assert load_file(run / "checkpoints" / "checkpoint-1" / "pretraining.safetensors") == {}
    assert {weight.dtype for weight in load_file(run / "model.safetensors").values()} == {torch.float32}


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"train": "other.json"}}, r"There is no list of statements .*other\.json"),
        ({"data": {"validate": "../x.json"}}, "There is no list"),
        ({"model": {"pruning": {"begin": [3], "blocks_ahead": [2], "keep": [0.5]}}}, "looks ahead to block 4"),
        ({"model": {"text_width": 16, "pruning": PRUNING}}, "The text has 16 channels and the tower 32"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    sections: dict[str, Any], message: str, data: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        config = tiny_classifier_run(data, tmp_path / "run")
        train_classifier(replace(config, **{key: replace(getattr(config, key), **sections[key]) for key in sections}))
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_resumed_or_evaluated_as_another(data: dict[str, Path], runs: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="already holds a run"):
        train_classifier(tiny_classifier_run(data, runs["nlvr2"], "nlvr2"))
    with pytest.raises(UserError, match=r"losses\.alpha was 0\.4 and is 0\.2"):
        train_classifier(tiny_classifier_run(data, runs["nlvr2"], "nlvr2", losses={"alpha": 0.2}), resume=True)
    with pytest.raises(UserError, match="was trained for nlvr2 at 32 pixels"):
        open_classifier(runs["nlvr2"], ["task=entailment"])
    with pytest.raises(UserError, match="The split is 'dev'; allowed: train, validate, test"):
        evaluate_classifier(runs["nlvr2"], "dev")
    with pytest.raises(UserError, match=r"name a \.json file"):
        evaluate_classifier(runs["nlvr2"], "test", out=Path("out.txt"))


def test_what_is_no_run_cannot_be_evaluated(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no config\.yaml"):
        evaluate_classifier(tmp_path, "test")
    shutil.copy(runs["nlvr2"] / "config.yaml", tmp_path)
    with pytest.raises(UserError, match="holds no model yet"):
        evaluate_classifier(tmp_path, "test")

"""Runs of BLIP-2's first stage: what they log, keep, resume and refuse, and the second stage that starts from them."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from resumed_run import quietly
from safetensors.torch import load_file
from toy_run import Toy, environment, program

from evlvideo.assembly.first_stage import start_first_stage
from evlvideo.assembly.models import start_model
from evlvideo.config.loading import save_config
from evlvideo.config.run import RunConfig
from evlvideo.config.scst import ScstConfig
from evlvideo.config.training import RepresentationConfig
from evlvideo.errors import UserError
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.files import read_json
from evlvideo.models.towers import read_manifest

STEPS = 4
TEXT_BRANCH = "representation.safetensors"
BLIP2: dict[str, Any] = {"connector": "blip2", "connector_options": {"num_queries": 5}, "fusion": "mean"}


def config_of(toy: Toy, directory: Path, **sections: Any) -> RunConfig:
    """A first stage on the toy, from its towers."""
    language = read_json(toy.checkpoint / "config.json")["language_model"]
    given = {"tokenizer": language, "width": 8, **sections.pop("representation", {})}
    further = {"stage": "representation", "representation": RepresentationConfig(**given), "scst": ScstConfig()}
    further |= sections.pop("run", {})
    training = {"max_steps": STEPS, **sections.pop("training", {})}
    return toy.config(
        directory, model={**BLIP2, **sections.pop("model", {})}, training=training, run=further, **sections
    )


def second_of(toy: Toy, run: Path, first: Path, **changes: Any) -> RunConfig:
    """A second stage of one step."""
    return toy.config(run, init=first, model=BLIP2, training={"max_steps": 1, "eval_steps": 1}, run=changes)


@pytest.fixture(scope="module")
def trained(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quietly(config_of(toy, tmp_path_factory.mktemp("first") / "run"))


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def test_the_log_has_the_three_losses(trained: Path) -> None:
    steps = [line for line in lines_of(trained) if "loss" in line]
    assert len(steps) == STEPS
    for line in steps:
        parts = [line[f"{name}_loss"] for name in ("contrast", "matching", "generation")]
        assert line["loss"] == pytest.approx(sum(parts), rel=1e-4)
        assert min(parts) > 0


def test_validation_has_them_in_eval_mode_and_what_is_found_first(trained: Path) -> None:
    found = [line for line in lines_of(trained) if "validation_loss" in line]
    assert [line["step"] for line in found] == [2, 4]
    for line in found:
        parts = [line[f"validation_{name}_loss"] for name in ("contrast", "matching", "generation")]
        assert line["validation_loss"] == pytest.approx(sum(parts))
        assert line["validation_pairs"] == 4
        assert all(0 <= line[f"validation_{way}_r1"] <= 1 for way in ("image_to_text", "text_to_image"))


def test_the_best_checkpoint_has_the_least_validation_loss(trained: Path) -> None:
    summary = read_json(trained / "training.json")
    found = {line["step"]: line["validation_loss"] for line in lines_of(trained) if "validation_loss" in line}
    assert summary["best_step"] == min(found, key=lambda step: found[step])
    assert summary["best_loss"] == min(found.values())
    assert summary["stage"] == "representation"
    checkpoint = trained / "checkpoints" / f"checkpoint-{summary['best_step']}"
    for name in ("model.safetensors", TEXT_BRANCH):
        assert same(load_file(trained / name), load_file(checkpoint / name))


def test_queries_and_text_branch_learn(trained: Path) -> None:
    before, after = (trained / "checkpoints" / f"checkpoint-{step}" for step in (2, 4))
    for name in ("model.safetensors", TEXT_BRANCH):
        early, late = load_file(before / name), load_file(after / name)
        assert not [weight for weight in early if torch.equal(early[weight], late[weight]) and early[weight].any()]


def test_the_summary_counts_all_that_is_trained(trained: Path) -> None:
    weights = [*load_file(trained / "model.safetensors").values(), *load_file(trained / TEXT_BRANCH).values()]
    assert read_json(trained / "training.json")["trained_parameters"] == sum(weight.numel() for weight in weights)


def test_a_resumed_run_is_that_without_interruption(toy: Toy, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.rmtree(run / "checkpoints" / "checkpoint-4")
    (run / "training.json").unlink()
    quietly(config_of(toy, run), resume=True)
    for name in ("model.safetensors", TEXT_BRANCH):
        ours, theirs = (load_file(path / "checkpoints" / "checkpoint-4" / name) for path in (run, trained))
        assert same(ours, theirs)

    def timeless(path: Path) -> list[dict[str, Any]]:
        """All lines but the last, which is transformers' and of seconds."""
        return [{key: value for key, value in line.items() if "seconds" not in key} for line in lines_of(path)[:-1]]

    assert timeless(run) == timeless(trained)


def test_the_log_interval_is_kept_too(toy: Toy, tmp_path: Path) -> None:
    """The last line is of four steps, of which the checkpoint that it resumes from lies in the middle."""
    training = {"max_steps": 4, "log_steps": 4, "eval_steps": 2}
    whole = quietly(config_of(toy, tmp_path / "whole", training=training))
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shutil.rmtree(run / "checkpoints" / "checkpoint-4")
    (run / "training.json").unlink()
    quietly(config_of(toy, run, training=training), resume=True)
    ours, theirs = (next(line for line in lines_of(path) if "loss" in line) for path in (run, whole))
    for name in ("contrast_loss", "matching_loss", "generation_loss"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-6)


def test_weights_of_losses_change_what_is_learned(toy: Toy, trained: Path, tmp_path: Path) -> None:
    other = quietly(config_of(toy, tmp_path / "run", representation={"matching_weight": 0.0}))
    first = [next(line for line in lines_of(run) if "loss" in line) for run in (trained, other)]
    assert first[0]["matching_loss"] == first[1]["matching_loss"]
    assert first[1]["loss"] == pytest.approx(first[1]["contrast_loss"] + first[1]["generation_loss"], rel=1e-4)


def test_the_language_model_is_not_opened(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        pytest.fail(f"{name} was opened")

    monkeypatch.setattr("evlvideo.models.towers.read_language_model", refuse)
    quietly(config_of(toy, tmp_path / "run", training={"max_steps": 1, "eval_steps": 1}))


def test_the_second_stage_starts_from_the_q_former_with_a_new_projection(
    toy: Toy, trained: Path, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model, _ = start_model(second_of(toy, tmp_path / "run", trained), tower_dtype=torch.float32)
    kept, own = load_file(trained / "model.safetensors"), model.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in kept.items())
    assert model.language_projection.weight.std() > 0
    run = quietly(second_of(toy, tmp_path / "run", trained))
    assert "language_projection.weight" in load_file(run / "model.safetensors")
    assert not (run / TEXT_BRANCH).exists()
    assert read_manifest(run)["language_model"].fingerprint is not None
    assert evaluate(run, split="validate").scores["cider"] >= 0


def test_the_second_stage_may_fit_its_projection_and_leaves_the_norm(toy: Toy, trained: Path, tmp_path: Path) -> None:
    rate = {"learning_rate": 1e-20, "min_learning_rate": 1e-20, "warmup_steps": 0, "max_steps": 1, "eval_steps": 1}
    config = replace(second_of(toy, tmp_path / "run", trained, fit_clips=8))
    run = quietly(replace(config, training=replace(config.training, **rate)))
    kept, found = load_file(trained / "model.safetensors"), load_file(run / "model.safetensors")
    torch.testing.assert_close(found["ln_vision.weight"], kept["ln_vision.weight"])
    assert found["language_projection.bias"].abs().max() > 1e-3


def test_the_first_stage_may_go_on_from_another(toy: Toy, trained: Path, tmp_path: Path) -> None:
    config = replace(config_of(toy, tmp_path / "run"), init=str(trained))
    stage = start_first_stage(config, tower_dtype=torch.float32)
    kept = load_file(trained / TEXT_BRANCH)
    assert all(torch.equal(value, kept[name]) for name, value in stage.model.text_branch().items())


def test_a_first_stage_does_not_caption(trained: Path) -> None:
    with pytest.raises(UserError, match=r"is of the representation stage: .* Train stage=caption with init=.* first"):
        evaluate(trained, split="validate")


def test_the_self_critical_stage_does_not_start_from_a_first_stage(toy: Toy, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="of the representation stage, but the scst stage needs a model that captions"):
        quietly(second_of(toy, tmp_path / "run", trained, stage="scst"))
    assert not (tmp_path / "run").exists()


def test_another_text_branch_is_refused(toy: Toy, trained: Path, tmp_path: Path) -> None:
    config = replace(config_of(toy, tmp_path / "run", representation={"width": 4}), init=str(trained))
    with pytest.raises(UserError, match=r"The text branch .* does not fit the model: .* vision_projection"):
        quietly(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"connector": "tomeformer", "connector_options": None}}, "model.connector is tomeformer"),
        ({"model": {"contextualizer": "in_tower"}}, "model.contextualizer is in_tower, .* trains nothing inside"),
        ({"model": {"lora_r": 4}}, "model.lora_r is 4, but the representation stage has no language model"),
        ({"data": {"captions_per_clip": 2}}, "data.captions_per_clip is 2, .* pairs a clip with one caption"),
        ({"training": {"patience": 2}}, "training.patience is 2, .* no CIDEr"),
        ({"training": {"stop_on_collapse": True}}, "training.stop_on_collapse is True, .* set it to false"),
        ({"training": {"arguments": {"gradient_checkpointing": True}}}, "gradient_checkpointing is on"),
        ({"run": {"fit_clips": 8}}, "fit_clips is 8, .* has no language projection"),
        ({"run": {"prompt_scale": "words"}}, "prompt_scale is words, .* set it to null"),
        ({"representation": {"text_tokens": 2}}, "representation.text_tokens is 2; it must be at least 3"),
        (
            {"run": {"scst": ScstConfig(num_samples=3)}},
            "scst.num_samples is 3, but the representation stage samples no captions",
        ),
        (
            {"representation": dict.fromkeys(("contrast_weight", "matching_weight", "generation_weight"), 0.0)},
            "three weights of 0",
        ),
    ],
)
def test_what_the_stage_does_not_have_is_refused(
    toy: Toy, tmp_path: Path, sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        config_of(toy, tmp_path / "run", **sections)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"connector": None, "connector_options": None}}, "connector=tomeformer; set model.connector to bl"),
        ({"model": {"fusion": "concat"}}, "data.num_frames is 3 and model.fusion=concat"),
        ({"training": {"batch_size": 1}}, "training.batch_size is 1, and one process trains"),
        ({"representation": {"tokenizer": "none/there"}}, "representation.tokenizer is 'none/there'"),
    ],
)
def test_what_cannot_be_trained_leaves_nothing_behind(
    toy: Toy, tmp_path: Path, sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        quietly(config_of(toy, tmp_path / "run", **sections))
    assert not (tmp_path / "run").exists()


def test_two_processes_train_on_the_pairs_of_both(toy: Toy, tmp_path: Path) -> None:
    """They end with the same weights, and their contrast is that of one process on the same four pairs."""
    without = {"connector_dropout": 0.0}
    alone = quietly(config_of(toy, tmp_path / "alone", model=without, training={"max_steps": 2}))
    both = config_of(toy, tmp_path / "both", model=without, training={"max_steps": 2, "batch_size": 2})
    save_config(both, tmp_path / "run.yaml")
    run, *arguments = program("train", str(tmp_path / "run.yaml"))[1:]
    script = tmp_path / "program.py"
    script.write_text(arguments[0] if run == "-c" else "")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    subprocess.run(
        [*launch, *arguments[1:]], env=environment(), check=True, capture_output=True, text=True, timeout=300
    )
    first = [next(line for line in lines_of(found) if "loss" in line) for found in (alone, tmp_path / "both")]
    assert first[1]["contrast_loss"] == pytest.approx(first[0]["contrast_loss"], rel=1e-3)
    assert first[1]["generation_loss"] == pytest.approx(first[0]["generation_loss"], rel=0.1)

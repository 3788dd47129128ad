"""Runs that train towers, or freeze other parts: from the config to the run's directory, and on resuming."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from resumed_run import quietly
from safetensors.torch import load_file
from toy_run import Toy, make_trainer

from evlvideo.assembly.models import open_model, start_model
from evlvideo.config.loading import config_of as config_of_overrides
from evlvideo.config.run import RunConfig
from evlvideo.config.training import LearningRatesConfig
from evlvideo.errors import UserError
from evlvideo.estimate.run_costs import estimate_run
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.inspection.weights import weights_of
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.published.evlgen import to_published
from evlvideo.models.towers import read_manifest
from evlvideo.models.trainable import trained_part

BOTH = {"learning_rates": LearningRatesConfig(language_model=1e-3, vision_tower=1e-4), "vision_blocks": 1}
LANGUAGE_MODEL = {"learning_rates": LearningRatesConfig(language_model=1e-3)}


def config_of(toy: Toy, directory: Path, training: dict[str, Any], **sections: Any) -> RunConfig:
    return toy.config(directory, training=training, **sections)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def weights_of_run(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


@pytest.fixture(scope="module")
def run(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps that trains the language model and the tower's last block."""
    return quietly(config_of(toy, tmp_path_factory.mktemp("parts") / "run", {**BOTH, "max_steps": 4}))


# Settings


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            [f"training.learning_rates.{part}=0" for part in ("connector", "projections", "contextualizers", "lora")],
            "training.learning_rates are all 0, so that nothing is trained",
        ),
        (["training.vision_blocks=2"], "training.vision_blocks is 2, but the vision tower is frozen"),
        (
            [
                *("data.features=f", "data.augment=false", "data.train_sampling=uniform"),
                "training.learning_rates.vision_tower=1e-6",
            ],
            "data.features holds the outputs of the vision tower, which training.learning_rates.vision_tower=1e-06 ",
        ),
        (
            ["contrastive.beta=0.1", "training.learning_rates.projections=0"],
            "its projections learn at training.learning_rates.projections, which is 0",
        ),
        (
            ["training.learning_rates.language_model=-1"],
            "training.learning_rates.language_model is -1.0; it must be at",
        ),
        (["training.learning_rates.vision_tower=null"], "training.learning_rates.vision_tower is null; it must be a"),
    ],
)
def test_what_cannot_be_trained_is_said(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said.replace(".", r"\.")):
        config_of_overrides(overrides)


def test_a_run_whose_parts_are_missing_is_refused_before_anything_is_written(toy: Toy, tmp_path: Path) -> None:
    rates = LearningRatesConfig(connector=0, projections=0, contextualizers=1e-3, lora=None)
    with pytest.raises(UserError, match=r"trains nothing: .* learning rate, contextualizers, lora; it has connector, "):
        quietly(config_of(toy, tmp_path / "run", {"learning_rates": rates}))
    assert not (tmp_path / "run").exists()


# Training


@pytest.mark.parametrize("stage", ["caption", "scst"])
def test_one_step_changes_exactly_the_parts_with_a_rate(toy: Toy, tmp_path: Path, stage: str) -> None:
    rates = LearningRatesConfig(connector=0, language_model=1e-3, vision_tower=1e-3)
    training = {"learning_rates": rates, "vision_blocks": 1, "max_steps": 1, "warmup_steps": 0}
    trainer = make_trainer(config_of(toy, tmp_path, training, run={"stage": stage}))
    before = weights(trainer.captioner)
    trainer.train()
    after = weights(trainer.captioner)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    last = ("vision_tower.vit.blocks.1.", "vision_tower.vit.norm.")
    assert changed == {
        name for name in before if trained_part(name) in ("language_model", "projections") or name.startswith(last)
    }


def test_accumulated_self_critical_batches_reach_the_tower(toy: Toy, tmp_path: Path) -> None:
    """Each batch is encoded again with gradient; the features of its sampling have none."""
    rates = LearningRatesConfig(connector=0, projections=0, vision_tower=1e-3)
    training = {"learning_rates": rates, "max_steps": 1, "warmup_steps": 0, "gradient_accumulation_steps": 2}
    trainer = make_trainer(config_of(toy, tmp_path, {**training, "batch_size": 2}, run={"stage": "scst"}))
    before = weights(trainer.captioner)
    trainer.train()
    after = weights(trainer.captioner)
    moved = {trained_part(name) for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"vision_tower"}


def test_each_part_has_its_rate(toy: Toy, tmp_path: Path) -> None:
    trainer = make_trainer(config_of(toy, tmp_path, BOTH))
    optimizer = trainer.create_optimizer()
    rates = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    found: dict[str, set[float]] = {}
    for name, weight in trainer.captioner.named_parameters():
        if weight.requires_grad:
            found.setdefault(trained_part(name), set()).add(rates[id(weight)])
    assert found == {"connector": {1e-2}, "projections": {1e-2}, "language_model": {1e-3}, "vision_tower": {1e-4}}


def test_the_divergence_of_self_critical_training_is_from_the_language_model_at_its_start(
    toy: Toy, tmp_path: Path
) -> None:
    training = {"learning_rates": LearningRatesConfig(language_model=1e-2), "max_steps": 2, "warmup_steps": 0}
    config = config_of(toy, tmp_path, training, run={"stage": "scst"}, scst={"kl_weight": 0.1})
    trainer = make_trainer(config)
    start = weights(trainer.captioner)
    trainer.train()
    kept = trainer._start  # type: ignore[attr-defined]
    assert kept.keys() == {name for name, weight in trainer.captioner.named_parameters() if weight.requires_grad}
    assert all(torch.equal(value, start[name]) for name, value in kept.items())
    divergence = [line["kl"] for line in trainer.state.log_history if "kl" in line]
    assert divergence[0] == pytest.approx(0, abs=1e-5) and divergence[1] > 1e-4


# The run's directory


@pytest.mark.usefixtures("no_java")
def test_a_finished_run_holds_what_it_trained_and_is_evaluated_from_it(toy: Toy, run: Path) -> None:
    assert set(read_manifest(run)) == {"vision_tower"}
    names = weights_of_run(run)
    assert {trained_part(name) for name in names} == {"connector", "projections", "language_model", "vision_tower"}
    summary = json.loads((run / "training.json").read_text())
    assert summary["trained_parameters"] == sum(value.numel() for value in names.values())
    result = evaluate(run, split="validate")
    assert result.trained_parameters == summary["trained_parameters"]


def test_a_step_of_a_hundred_thousandth_moves_weights_of_a_run_in_half_precision(toy: Toy, tmp_path: Path) -> None:
    rates = LearningRatesConfig(language_model=1e-6, vision_tower=1e-6)
    constant = {"learning_rate": 1e-2, "min_learning_rate": 1e-2, "warmup_steps": 0}
    training = {**constant, "learning_rates": rates, "max_steps": 1, "precision": "bf16", "weight_decay": 0.0}
    config = config_of(toy, tmp_path / "run", training)
    before = weights(start_model(config, tower_dtype=torch.bfloat16)[0])
    saved = weights_of_run(quietly(config))
    opened = weights(open_model(tmp_path / "run", config)[0])
    for part in ("language_model", "vision_tower"):
        moved: list[float] = []
        for name in (name for name in saved if trained_part(name) == part):
            # Adam's first step is the rate: of a weight of 0.1, 1e-5 of itself, which bfloat16 would round away.
            large = (before[name].abs() > 0.05) & (before[name].abs() < 0.12)
            shares = ((saved[name] - before[name]).abs() / before[name].abs())[large]
            assert torch.equal(saved[name], opened[name].float())
            moved += shares[shares > 0].tolist()
        assert len(moved) > 10
        assert max(moved) < 2.1e-5 and sorted(moved)[len(moved) // 2] > 0.8e-5, part


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_interrupted_run_equals_one_that_was_not(toy: Toy, tmp_path: Path, precision: str) -> None:
    training = {**BOTH, "precision": precision}
    whole = quietly(config_of(toy, tmp_path / "whole", {**training, "max_steps": 4}))
    again = tmp_path / "again"
    quietly(config_of(toy, again, {**training, "max_steps": 4}))
    for name in ("model.safetensors", "training.json"):
        (again / name).unlink()
    shutil.rmtree(again / "checkpoints" / "checkpoint-4")
    quietly(config_of(toy, again, {**training, "max_steps": 4}), resume=True)
    first, second = weights_of_run(whole), weights_of_run(again)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("part", "before", "now"), [("language_model", 1e-3, 0.0), ("lora", None, 0.0), ("vision_tower", 1e-4, 1e-5)]
)
def test_a_part_stays_frozen_or_trained_when_a_run_resumes(
    toy: Toy, run: Path, tmp_path: Path, part: str, before: Any, now: float
) -> None:
    copied = shutil.copytree(run, tmp_path / "run")
    rates = replace(BOTH["learning_rates"], **{part: now})
    config = config_of(toy, copied, {**BOTH, "learning_rates": rates, "max_steps": 6})
    if part == "vision_tower":
        quietly(config, resume=True)
        return
    with pytest.raises(UserError, match=rf"cannot resume with training\.learning_rates\.{part}=0\.0 \(it was "):
        quietly(config, resume=True)


def test_a_later_run_freezes_what_an_earlier_one_trained_and_keeps_it(toy: Toy, run: Path, tmp_path: Path) -> None:
    later = quietly(config_of(toy, tmp_path / "later", {"max_steps": 2}, run={"init": str(run)}))
    first, second = weights_of_run(run), weights_of_run(later)
    assert first.keys() == second.keys()
    same = {name for name in first if torch.equal(first[name], second[name])}
    assert {trained_part(name) for name in same} == {"language_model", "vision_tower"}


def test_inspection_and_export_know_what_was_trained(toy: Toy, run: Path) -> None:
    model, _ = open_model(run, config_of(toy, run, BOTH))
    parts = {part.name: part for part in weights_of(model, read_manifest(run)).parts}
    language, tower = parts["language_model"], parts["vision_tower"]
    assert language.parameters == language.trained == language.saved
    assert 0 < tower.trained == tower.saved < tower.parameters
    with pytest.raises(UserError, match=r"those of this model were trained \(language_model\., vision_tower"):
        to_published(model)


def test_a_run_from_new_towers_trains_them_in_float32(toy: Toy, tmp_path: Path) -> None:
    model, _ = start_model(config_of(toy, tmp_path, BOTH), tower_dtype=torch.bfloat16)
    found = {weight.dtype for weight in model.parameters() if weight.requires_grad}
    assert found == {torch.float32}
    assert isinstance(model, EvlVideoForCaptioning)


# Estimates


def estimated(*overrides: str) -> Any:
    return estimate_run(config_of_overrides(["init=mini", "training.precision=bf16", *overrides]))


def test_an_estimate_counts_gradients_and_moments_of_trained_towers() -> None:
    frozen = estimated()
    trained = estimated("training.learning_rates.language_model=1e-5")
    weights = frozen.parameters.language_model
    assert trained.trained.language_model == trained.saved.language_model == weights
    assert trained.memory.weights - frozen.memory.weights == 2 * weights  # float32 instead of bfloat16
    assert trained.memory.gradients - frozen.memory.gradients == 4 * weights
    assert trained.memory.optimizer - frozen.memory.optimizer == 8 * weights
    assert trained.memory.activations > frozen.memory.activations
    assert trained.training_batch.language_model > 1.3 * frozen.training_batch.language_model
    assert trained.training_batch.vision_tower == frozen.training_batch.vision_tower
    assert trained.captioning_clip == frozen.captioning_clip


def test_an_estimate_of_last_blocks_goes_back_through_these_alone() -> None:
    frozen, last, whole = (
        estimated(*changes)
        for changes in (
            [],
            ["training.learning_rates.vision_tower=1e-5", "training.vision_blocks=1"],
            ["training.learning_rates.vision_tower=1e-5"],
        )
    )
    costs = [found.training_batch.vision_tower for found in (frozen, last, whole)]
    assert costs[0] < costs[1] < costs[2] and costs[2] == pytest.approx(3 * costs[0], rel=0.1)
    assert frozen.feature_bytes and last.feature_bytes is None


def test_an_estimate_with_a_frozen_connector_goes_back_to_nothing() -> None:
    parts = ("connector", "projections", "contextualizers")
    found = estimated("training.learning_rates.language_model=1e-5", *(f"training.learning_rates.{p}=0" for p in parts))
    assert found.trained.connector == 0
    assert found.training_batch.connector == estimated().captioning_clip.connector * found.workload.batch_size


def test_an_estimate_knows_what_the_checkpoint_holds(toy: Toy, run: Path, tmp_path: Path) -> None:
    later = estimate_run(config_of(toy, tmp_path, {"precision": "bf16"}, run={"init": str(run)}))
    plain = estimate_run(config_of(toy, tmp_path, {"precision": "bf16"}))
    assert later.saved.language_model == later.parameters.language_model and plain.saved.language_model == 0
    assert later.memory.weights > plain.memory.weights and later.memory.gradients == plain.memory.gradients

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_run
from rich.console import Console
from safetensors.torch import load_file
from sync_counter import SyncCounter
from torch import Tensor, nn
from toy_run import SPLITS, Toy, make_trainer, open_all_gates, switch_dropout_off
from transformers import TrainerCallback, TrainingArguments

from evlvideo.config.run import RunConfig
from evlvideo.config.training import LearningRatesConfig
from evlvideo.errors import UserError
from evlvideo.files import read_json
from evlvideo.inference.captions import Caption
from evlvideo.models.trainable import tower_of, trained_part
from evlvideo.training import arguments as arguments_module
from evlvideo.training import trainer as trainer_module
from evlvideo.training import validation as validation_module
from evlvideo.training.arguments import training_arguments
from evlvideo.training.run import train
from evlvideo.training.trainer import CaptionTrainer

FORMS: dict[str, dict[str, Any]] = {
    "concat": {"fusion": "concat"},
    "mean": {"fusion": "mean"},
    "in_tower": {"fusion": "mean", "contextualizer": "in_tower", "frame_positions": True},
    "merged": {"fusion": "mean_tokens", "contextualizer": "merged", "frame_positions": True},
}
ONE_STEP = {"max_steps": 1, "eval_steps": 100, "warmup_steps": 0}


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


class LearningRates(TrainerCallback):
    """Notes the learning rate that each step is made with."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_pre_optimizer_step(self, *args: Any, optimizer: torch.optim.Optimizer, **kwargs: Any) -> None:
        self.values.append(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("stage", ["caption", "scst"])
@pytest.mark.parametrize("form", FORMS)
def test_one_step_changes_exactly_what_is_trained(toy: Toy, tmp_path: Path, form: str, stage: str) -> None:
    config = toy.config(tmp_path, model=FORMS[form], training=ONE_STEP, run={"stage": stage})
    trainer = make_trainer(config)
    # At closed gates, queries and keys take no gradient yet.
    open_all_gates(trainer.captioner)
    before = weights(trainer.captioner)
    trainer.train()
    after = weights(trainer.captioner)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if tower_of(name) is None}


def test_frozen_towers_take_no_gradient_and_stay_in_eval_mode(toy: Toy, tmp_path: Path) -> None:
    trainer = make_trainer(toy.config(tmp_path, training=ONE_STEP))
    trainer.train()
    model = trainer.captioner
    assert model.training and model.connector.training
    assert not any(module.training for module in model.language_model.modules())
    assert not any(module.training for module in model.vision_tower.vit.modules())
    assert all(weight.grad is None for name, weight in model.named_parameters() if tower_of(name) is not None)


def test_a_model_split_over_processes_is_refused(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_module, "is_deepspeed_zero3_enabled", lambda: True)
    with pytest.raises(UserError, match=r"ZeRO-3 split a model .* Launch without them"):
        make_trainer(toy.config(tmp_path))


def test_the_optimizer_holds_exactly_what_is_trained(toy: Toy, tmp_path: Path) -> None:
    trainer = make_trainer(toy.config(tmp_path))
    optimizer = trainer.create_optimizer()
    optimized = {id(weight) for group in optimizer.param_groups for weight in group["params"]}
    trained = {id(weight) for name, weight in trainer.captioner.named_parameters() if tower_of(name) is None}
    assert optimized == trained


def after_one_plain_step(config: RunConfig) -> dict[str, Tensor]:
    """The weights after a step of gradient descent without dropout: the gradient, to what was there before."""
    trainer = make_trainer(config)
    trainer.args.optim, trainer.args.max_grad_norm = "sgd", 0.0
    switch_dropout_off(trainer.captioner)
    trainer.train()
    return weights(trainer.captioner)


def test_a_batch_of_8_is_2_times_4_accumulated(toy: Toy, tmp_path: Path) -> None:
    fixed = {**ONE_STEP, "learning_rate": 0.1, "min_learning_rate": 0.1}
    whole = toy.config(tmp_path / "whole", training={**fixed, "batch_size": 8})
    halves = toy.config(tmp_path / "halves", training={**fixed, "batch_size": 4, "gradient_accumulation_steps": 2})
    start = weights(make_trainer(whole).captioner)
    first, second = after_one_plain_step(whole), after_one_plain_step(halves)
    assert max(float((first[name] - start[name]).abs().max()) for name in first) > 1e-3
    for name in first:
        torch.testing.assert_close(second[name], first[name], atol=1e-6, rtol=0, msg=name)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_stops_and_names_the_clips(toy: Toy, tmp_path: Path, value: float) -> None:
    trainer = make_trainer(toy.config(tmp_path))
    with torch.no_grad():
        trainer.captioner.language_projection.bias[0] = value
    with pytest.raises(UserError, match=r"The loss is nan at step 1, in the batch of the clips video\d+, video\d+"):
        trainer.train()
    assert not list((tmp_path / "checkpoints").glob("checkpoint-*"))


def test_a_run_that_diverged_between_log_lines_overwrites_no_checkpoint(toy: Toy, tmp_path: Path) -> None:
    training = {"max_steps": 6, "eval_steps": 3, "log_steps": 100}
    trainer = make_trainer(toy.config(tmp_path, training=training))

    class Diverge(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                torch.nn.init.constant_(trainer.captioner.language_projection.bias, torch.nan)

    trainer.add_callback(Diverge)
    with pytest.raises(UserError, match="The loss is nan at step 4, in the batch of the clips video"):
        trainer.train()
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"checkpoint-3"}


def test_weights_that_a_gradient_spoiled_are_in_no_checkpoint(toy: Toy, tmp_path: Path) -> None:
    trainer = make_trainer(toy.config(tmp_path, training={"max_steps": 4, "eval_steps": 2, "log_steps": 100}))
    bias = trainer.captioner.language_projection.bias
    bias.register_hook(lambda gradient: gradient * (torch.nan if trainer.state.global_step == 3 else 1))
    with pytest.raises(UserError, match=r"losses up to step 4 are finite, but the weights after it are not\. Lower"):
        trainer.train()
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {"checkpoint-2"}


def test_a_step_without_a_log_line_reads_nothing_from_the_device(toy: Toy, tmp_path: Path) -> None:
    """But for the language model's look at whether its mask has padding, which is transformers'."""
    trainer = make_trainer(toy.config(tmp_path, training={"max_steps": 3, "eval_steps": 100, "log_steps": 100}))
    counters: list[SyncCounter] = []

    class Count(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            counters.append(SyncCounter().__enter__())

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            counters[-1].__exit__(None, None, None)

    trainer.add_callback(Count)
    trainer.train()
    assert {site.split()[-1] for site in counters[1].sites} <= {"_ignore_causal_mask_sdpa"}
    assert counters[1].count <= 2


def tell_ciders(monkeypatch: pytest.MonkeyPatch, ciders: list[float]) -> None:
    """Have validations score these, one after the other."""
    told, original = iter(ciders), validation_module.score_tokenized

    def score(*args: Any, **kwargs: Any) -> Any:
        return replace(original(*args, **kwargs), corpus={"cider": next(told)})

    monkeypatch.setattr(validation_module, "score_tokenized", score)


def test_the_best_validation_cider_chooses_what_the_run_directory_holds(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_ciders(monkeypatch, [0.1, 0.9, 0.3])
    run = train(toy.config(tmp_path / "run"), console=Console(quiet=True))
    summary = read_json(run / "training.json")
    assert (summary["best_step"], summary["best_cider"], summary["steps"]) == (4, 0.9, 6)
    best, last = (load_file(run / "checkpoints" / f"checkpoint-{step}" / "model.safetensors") for step in (4, 6))
    kept = load_file(run / "model.safetensors")
    assert all(torch.equal(kept[name], best[name]) for name in best)
    assert not all(torch.equal(kept[name], last[name]) for name in best)


def test_the_best_checkpoint_is_kept_while_older_ones_go(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_ciders(monkeypatch, [0.9, 0.1, 0.2, 0.3])
    config = toy.config(tmp_path / "run", training={"max_steps": 4, "eval_steps": 1, "keep_checkpoints": 1})
    run = train(config, console=Console(quiet=True))
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"checkpoint-1", "checkpoint-4"}
    assert read_json(run / "training.json")["best_step"] == 1


def test_the_last_step_is_validated_whatever_the_interval(toy: Toy, tmp_path: Path) -> None:
    config = toy.config(tmp_path / "run", training={"max_steps": 3, "eval_steps": 2})
    run = train(config, console=Console(quiet=True))
    assert [entry["step"] for entry in log_of(run) if "validation_cider" in entry] == [2, 3]


def test_learning_rate_warms_up_to_its_peak_and_falls_to_its_minimum(toy: Toy, tmp_path: Path) -> None:
    schedule = {
        "max_steps": 8,
        "warmup_steps": 3,
        "learning_rate": 1e-3,
        "min_learning_rate": 1e-4,
        "warmup_learning_rate": 1e-8,
        "eval_steps": 100,
    }
    trainer = make_trainer(toy.config(tmp_path, training=schedule))
    noted = LearningRates()
    trainer.add_callback(noted)
    trainer.train()
    values = noted.values
    assert values[0] == pytest.approx(1e-8)
    assert values[1] == pytest.approx((1e-8 + 1e-3) / 2)
    assert values[2] == pytest.approx(1e-3)
    assert values[-1] == pytest.approx(1e-4)
    assert values[2:] == sorted(values[2:], reverse=True)


def groups_of(trainer: CaptionTrainer) -> dict[str, dict[str, Any]]:
    """The optimizer's group of each weight."""
    groups = {id(weight): group for group in trainer.create_optimizer().param_groups for weight in group["params"]}
    return {name: groups[id(weight)] for name, weight in trainer.captioner.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("form", ["in_tower", "merged"])
def test_weight_decay_leaves_gates_norms_and_biases(toy: Toy, tmp_path: Path, form: str) -> None:
    trainer = make_trainer(toy.config(tmp_path, model=FORMS[form], training={"weight_decay": 0.05}))
    decayed = {name for name, group in groups_of(trainer).items() if group["weight_decay"] == 0.05}
    plain = {name for name, group in groups_of(trainer).items() if group["weight_decay"] == 0}
    assert decayed == {
        name
        for name, weight in trainer.captioner.named_parameters()
        if weight.requires_grad and weight.dim() == 2 and "frame_positions" not in name
    }
    assert {name.rpartition(".")[2] for name in plain} == {"weight", "bias", "alpha"}
    assert any("frame_positions" in name for name in plain)


@pytest.mark.parametrize("form", ["in_tower", "merged"])
def test_parts_have_learning_rates_of_their_own(toy: Toy, tmp_path: Path, form: str) -> None:
    rates = LearningRatesConfig(connector=1e-4, contextualizers=3e-2, lora=5e-3)
    model = {**FORMS[form], "lora_r": 2}
    trainer = make_trainer(toy.config(tmp_path, model=model, training={"learning_rate": 1e-3, "learning_rates": rates}))
    expected = {"connector": 1e-4, "contextualizers": 3e-2, "lora": 5e-3, "projections": 1e-3}
    found = groups_of(trainer)
    assert {name: group["lr"] for name, group in found.items()} == {
        name: expected[trained_part(name)] for name in found
    }
    assert {trained_part(name) for name in found} == expected.keys()


def test_parts_warm_up_and_fall_in_proportion_and_the_log_has_each(toy: Toy, tmp_path: Path) -> None:
    schedule = {"learning_rate": 1e-3, "warmup_learning_rate": 1e-4, "min_learning_rate": 5e-4, "warmup_steps": 2}
    rates = LearningRatesConfig(connector=1e-5, contextualizers=1e-2, lora=1.0)
    training = {**schedule, "learning_rates": rates, "max_steps": 4, "eval_steps": 100}
    run = train(toy.config(tmp_path / "run", model=FORMS["merged"], training=training), console=Console(quiet=True))
    entries = [entry for entry in log_of(run) if "loss" in entry]
    assert [entry["learning_rate"] for entry in entries] == pytest.approx([1e-4, 1e-3, 7.5e-4, 5e-4])
    for entry in entries:
        assert entry["learning_rate_connector"] == pytest.approx(entry["learning_rate"] / 100)
        assert entry["learning_rate_contextualizers"] == pytest.approx(entry["learning_rate"] * 10)
        assert "learning_rate_lora" not in entry and "learning_rate_projections" not in entry


@pytest.mark.parametrize("stage, epochs", [("caption", [0]), ("scst", [0, 1, 2])])
def test_the_data_set_is_told_its_epoch(
    toy: Toy, tmp_path: Path, stage: str, epochs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(toy.config(tmp_path, run={"stage": stage}))
    dataset: Any = trainer.train_dataset
    seen: list[int] = []
    original = type(dataset).__getitem__

    def get(self: Any, index: int) -> Any:
        if self is dataset:
            seen.append(int(self._epoch))
        return original(self, index)

    monkeypatch.setattr(type(dataset), "__getitem__", get)
    trainer.train()
    assert sorted(set(seen)) == epochs


def test_items_are_trained_on_in_the_order_of_the_data_set(toy: Toy, tmp_path: Path) -> None:
    """A sampler that shuffles undoes the proportions of a mixture."""
    trainer = make_trainer(toy.config(tmp_path))
    dataset: Any = trainer.train_dataset
    batches = [batch["clip_ids"] for batch in trainer.get_train_dataloader()]
    assert list(itertools.chain(*batches)) == [dataset[index]["clip_id"] for index in range(len(dataset))]
    assert {len(batch) for batch in batches} == {4}


def test_training_lines_of_the_log(toy: Toy, tmp_path: Path) -> None:
    run = train(toy.config(tmp_path / "run", training={"max_steps": 2}), console=Console(quiet=True))
    training = [entry for entry in log_of(run) if "loss" in entry]
    assert [entry["step"] for entry in training] == [1, 2]
    assert training[0].keys() == {"step", "epoch", "loss", "learning_rate", "grad_norm", "training_seconds"}


def test_validation_lines_of_the_log(toy: Toy, tmp_path: Path) -> None:
    run = train(toy.config(tmp_path / "run", training={"max_steps": 2}), console=Console(quiet=True))
    validation = [entry for entry in log_of(run) if "validation_cider" in entry]
    of_prompts = {f"validation_prompt_{name}" for name in ("between", "within", "norm")} | {"validation_clips"}
    of_captions = {f"validation_{name}" for name in ("distinct", "empty", "bad_endings", "special_tokens")}
    common = {"step", "epoch", "training_seconds"}
    (found,) = [entry.keys() for entry in validation]
    of_losses = {"validation_loss", "batch_loss", "batch_loss_eval_mode"}
    assert found == common | of_prompts | of_captions | of_losses | {"validation_cider"}
    start = log_of(run)[0]
    assert start.keys() == common | of_prompts
    assert (start["step"], start["validation_clips"]) == (0, SPLITS["validate"])


def test_validation_captions_every_validation_clip(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []
    original = validation_module.score_tokenized

    def score(captions: dict[str, str], *args: Any, **kwargs: Any) -> Any:
        seen.append(set(captions))
        return original(captions, *args, **kwargs)

    monkeypatch.setattr(validation_module, "score_tokenized", score)
    make_trainer(toy.config(tmp_path)).evaluate()
    assert seen == [{clip.clip_id for clip in toy.clips("validate")}]


@pytest.mark.parametrize("stage", ["caption", "scst"])
def test_validation_draws_nothing_at_random(toy: Toy, tmp_path: Path, stage: str) -> None:
    trainer = make_trainer(toy.config(tmp_path, run={"stage": stage}, training={"max_steps": 1}))
    trainer.train()
    before = torch.get_rng_state()
    trainer.evaluate()
    trainer.look_at_start()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_self_critical_run_has_no_dropout_to_compare_modes_by(toy: Toy, tmp_path: Path) -> None:
    config = toy.config(tmp_path / "run", run={"stage": "scst"}, training={"max_steps": 1})
    line = log_of(train(config, console=Console(quiet=True)))[-2]
    assert "validation_loss" in line and "validation_prompt_between" in line
    assert "batch_loss" not in line


def test_validation_time_is_no_training_time(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(toy.config(tmp_path, training={"max_steps": 1}))
    now = 0.0

    def clock() -> float:
        return now

    original = validation_module.generate_captions

    def captions(*args: Any, **kwargs: Any) -> dict[str, Caption]:
        nonlocal now
        now += 1000
        return original(*args, **kwargs)

    monkeypatch.setattr(trainer_module.time, "perf_counter", clock)
    monkeypatch.setattr(validation_module, "generate_captions", captions)
    trainer.train()
    assert now == 1000
    assert trainer.training_seconds == 0


@pytest.mark.parametrize(
    "precision, deepspeed, expected",
    [
        ("fp32", False, (False, False)),
        ("fp16", False, (False, True)),
        ("bf16", False, (False, False)),
        ("bf16", True, (True, False)),
    ],
)
def test_transformers_is_told_of_half_precision_where_it_acts_on_it(
    toy: Toy,
    tmp_path: Path,
    precision: str,
    deepspeed: bool,
    expected: tuple[bool, bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    monkeypatch.setattr(arguments_module, "_uses_deepspeed", lambda config: deepspeed)
    arguments = training_arguments(toy.config(tmp_path), precision)
    assert (arguments.bf16, arguments.fp16) == expected


@pytest.mark.parametrize("pinned", [True, False])
def test_batches_from_pinned_memory_are_moved_without_waiting(toy: Toy, tmp_path: Path, pinned: bool) -> None:
    config = toy.config(tmp_path, training={"arguments": {"dataloader_pin_memory": pinned}})
    assert training_arguments(config, "fp32").accelerator_config.non_blocking is pinned


def test_several_gpus_of_one_process_are_used_as_one(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def with_two(config: RunConfig, precision: str) -> TrainingArguments:
        arguments = training_arguments(config, precision)
        arguments._n_gpu = 2
        return arguments

    monkeypatch.setattr(toy_run, "training_arguments", with_two)
    trainer = make_trainer(toy.config(tmp_path, training={"batch_size": 4}))
    assert (trainer.args.n_gpu, trainer.args.train_batch_size) == (1, 4)
    assert trainer._wrap_model(trainer.model) is trainer.model
    assert "2 GPUs" in caplog.text and "accelerate launch --num_processes 2" in caplog.text


class TestOnGpu:
    """The same trainer, where there is a GPU."""

    @pytest.mark.needs_cuda
    @pytest.mark.parametrize(("precision", "form"), [("fp32", "merged"), *(("bf16", form) for form in FORMS)])
    def test_steps(self, toy: Toy, tmp_path: Path, precision: str, form: str) -> None:
        config = toy.config(tmp_path / "run", model=FORMS[form], training={"max_steps": 2, "precision": precision})
        run = train(config, console=Console(quiet=True))
        losses = [entry["loss"] for entry in log_of(run) if "loss" in entry]
        assert len(losses) == 2 and all(0 < loss < 20 for loss in losses)
        assert all(weight.dtype == torch.float32 for weight in load_file(run / "model.safetensors").values())

    @pytest.mark.needs_cuda
    def test_a_resumed_run_goes_on_as_the_one_that_was_not_stopped(self, toy: Toy, tmp_path: Path) -> None:
        training = {"max_steps": 4, "eval_steps": 2, "precision": "bf16"}
        config = toy.config(tmp_path / "run", model=FORMS["merged"], training=training)
        run = train(config, console=Console(quiet=True))
        whole = {entry["step"]: entry["loss"] for entry in log_of(run) if "loss" in entry}
        shutil.rmtree(run / "checkpoints" / "checkpoint-4")
        train(config, resume=True, console=Console(quiet=True))
        resumed = {entry["step"]: entry["loss"] for entry in log_of(run) if "loss" in entry}
        # Not bit for bit: a GPU adds up merged tokens in any order.
        assert resumed == pytest.approx(whole, rel=0.02)
        assert len(whole) == 4

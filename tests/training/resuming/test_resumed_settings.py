"""Which settings may change on resuming: all that may do, and are recorded; all others are refused by name."""

import json
import shutil
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from resumed_run import config_of, newest, quietly
from safetensors.torch import load_file
from toy_run import Toy

from evlvideo.config.data import SourceConfig
from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.config.settings import flat_settings
from evlvideo.config.trainer_arguments import _FIXED, _OURS, argument_types
from evlvideo.config.training import LearningRatesConfig
from evlvideo.errors import UserError
from evlvideo.files import read_json
from evlvideo.training.resuming.settings import (
    _SAME_CONTENT,
    _SHARED_OUT,
    ARGUMENTS_THAT_MAY_CHANGE,
    LIMITS,
    MAY_CHANGE,
    RATES,
    resumed_record,
    tell_changes,
)

OTHER: dict[str, Any] = {
    "stage": "scst",
    "init": "another/checkpoint",
    "architecture": "other.yaml",
    "connector_init": "bert-base-uncased",
    "prompt_scale": "words",
    "fit_clips": 8,
    "output_dir": "elsewhere",
    "seed": 43,
    "model.connector": "linear",
    "model.connector_options": {"num_queries": 4},
    "model.connector_dropout": 0.2,
    "model.fusion": "concat",
    "model.contextualizer": "in_tower",
    "model.contextualizer_blocks": [0],
    "model.frame_positions": False,
    "model.merge_r": 3,
    "model.merge_to": 7,
    "model.pruning": {"begin": [1], "keep": [0.5]},
    "model.visual_mask": "full",
    "model.lora_r": 2,
    "model.lora_alpha": 3,
    "model.lora_dropout": 0.1,
    "model.lora_targets": ["q_proj"],
    "text.template": "plain",
    "text.prompt": "Where?",
    "text.bos": "</s>",
    "text.end_of_text": "</s>",
    "text.bos_in_loss": False,
    "text.max_tokens": 20,
    "data.kind": "questions",
    "data.dataset": "jsonl",
    "data.root": "elsewhere",
    "data.video_root": "elsewhere",
    "data.sources": [SourceConfig(dataset="mini")],
    "data.batches": "one_source",
    "data.check_counts": False,
    "data.train_split": "validate",
    "data.train_clips": 3,
    "data.validation_split": "test",
    "data.validation_clips": 3,
    "data.quarantine": "bad.tsv",
    "data.scoring_tokenizer": "characters",
    "data.num_frames": 2,
    "data.captions_per_clip": 2,
    "data.train_sampling": "segments",
    "data.eval_sampling": "segment_middles",
    "data.features": "features",
    "data.augment": False,
    "data.keep_aspect": True,
    "data.crop_scale_min": 0.4,
    "data.horizontal_flip": 0.1,
    "data.num_workers": 3,
    "training.max_steps": 9,
    "training.batch_size": 2,
    "training.gradient_accumulation_steps": 2,
    "training.learning_rate": 0.005,
    "training.learning_rates.connector": 0.02,
    "training.learning_rates.projections": 0.02,
    "training.learning_rates.contextualizers": 0.02,
    "training.learning_rates.lora": 0.02,
    "training.learning_rates.vision_tower": 0.02,
    "training.learning_rates.language_model": 0.02,
    "training.vision_blocks": 1,
    "training.min_learning_rate": 1e-4,
    "training.schedule": "staircase",
    "training.schedule_steps": 2,
    "training.warmup_steps": 1,
    "training.warmup_learning_rate": 1e-5,
    "training.weight_decay": 0.1,
    "training.max_grad_norm": 0.5,
    "training.precision": "fp32",
    "training.eval_steps": 3,
    "training.keep_checkpoints": 1,
    "training.log_steps": 2,
    "training.patience": 3,
    "training.stop_on_collapse": True,
    "training.max_hours": 1.0,
    "training.arguments": {"optim": "adafactor"},
    "generation.num_beams": 3,
    "generation.do_sample": True,
    "generation.top_p": 0.9,
    "generation.temperature": 0.5,
    "generation.max_new_tokens": 9,
    "generation.min_new_tokens": 2,
    "generation.length_penalty": 2.0,
    "generation.repetition_penalty": 1.5,
    "generation.forbidden_words": ["cat"],
    "generation.batch_size": 3,
    "scst.preset": "luo2020",
    "scst.candidates": "beams",
    "scst.num_samples": 4,
    "scst.baseline": "mean",
    "scst.temperature": 0.9,
    "scst.top_p": 0.9,
    "scst.max_new_tokens": 9,
    "scst.reward": "bleu_4",
    "scst.reward_end_of_text": False,
    "scst.reward_frequencies": "batch",
    "scst.reward_references": "first",
    "scst.reward_file": "counts.safetensors",
    "scst.cross_entropy_weight": 0.1,
    "scst.kl_weight": 0.1,
    "scst.stop_on_collapse": True,
    "answering.num_beams": 3,
    "answering.do_sample": True,
    "answering.top_p": 0.9,
    "answering.temperature": 0.5,
    "answering.max_new_tokens": 9,
    "answering.min_new_tokens": 2,
    "answering.length_penalty": 2.0,
    "answering.repetition_penalty": 1.5,
    "answering.forbidden_words": ["cat"],
    "answering.batch_size": 3,
    "answering.prompt": "{} A word:",
    "answering.clean": False,
    "answering.max_prompt_tokens": 32,
    "contrastive.beta": 0.1,
    "contrastive.text_encoder": "simcse",
    "contrastive.width": 8,
    "contrastive.gradient": "full",
    "representation.contrast_weight": 0.5,
    "representation.matching_weight": 0.5,
    "representation.generation_weight": 0.5,
    "representation.tokenizer": "another/tokenizer",
    "representation.text_tokens": 9,
    "representation.width": 8,
}
"""Every setting, with another value than the run's."""
UNFREEZE = ("training.learning_rates.vision_tower", "training.learning_rates.language_model")
"""Rates that may change, but not from 0."""


def keys_of(section: type, prefix: str = "") -> list[str]:
    found: list[str] = []
    for entry in fields(section):
        default = getattr(section(), entry.name)
        found += keys_of(type(default), f"{prefix}{entry.name}.") if is_dataclass(default) else [prefix + entry.name]
    return found


def with_setting(config: RunConfig, key: str, value: Any) -> RunConfig:
    """Copy with another value; that it may contradict others is not looked at."""
    section, _, name = key.rpartition(".")
    copied = replace(config, **{part: replace(getattr(config, part)) for part in ("data", "training", "generation")})
    copied.model, copied.text, copied.scst = replace(config.model), replace(config.text), replace(config.scst)
    copied.answering, copied.contrastive = replace(config.answering), replace(config.contrastive)
    copied.training.learning_rates = replace(config.training.learning_rates)
    holder: Any = copied
    for part in section.split(".") if section else ():
        holder = getattr(holder, part)
    setattr(holder, name, value)
    return copied


def losses(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


# The table


def test_every_setting_is_tried() -> None:
    assert list(OTHER) == keys_of(RunConfig)


def test_the_table_names_settings_that_there_are() -> None:
    sources = {f"data.sources[].{entry.name}" for entry in fields(SourceConfig)}
    assert {*MAY_CHANGE, *RATES, *LIMITS, *_SAME_CONTENT, *_SHARED_OUT} <= {*OTHER, *sources}
    assert argument_types().keys() - _OURS.keys() - _FIXED.keys() >= ARGUMENTS_THAT_MAY_CHANGE


@pytest.mark.parametrize("key", OTHER)
def test_a_setting_may_change_and_is_told_or_is_refused_by_name(
    trained: Path, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = load_config(trained / "config.yaml")
    changed = with_setting(config, key, OTHER[key])
    shown = key + {"training.arguments": ".optim", "data.sources": "[0].dataset"}.get(key, "")
    shown += ".num_queries" if key == "model.connector_options" else ""
    if key in _SHARED_OUT:
        shown = r"training\.batch_size × training\.gradient_accumulation_steps × processes"
    if key not in MAY_CHANGE or key in UNFREEZE:
        with pytest.raises(UserError, match=f"cannot resume with .*{shown}".replace("[0]", r"\[0\]")):
            resumed_record(changed, trained, newest(trained))
        return
    with caplog.at_level("INFO", "evlvideo"):
        record = resumed_record(changed, trained, newest(trained))
        tell_changes(record, trained, newest(trained))
    assert record.config == changed
    if key == "output_dir":
        assert not record.changes
        return
    before = flat_settings(asdict(config))[key]
    assert record.changes == ({"step": 4, "changed": {key: [before, OTHER[key]]}},)
    assert f"resumes with {key}=" in caplog.text and MAY_CHANGE[key] in caplog.text


@pytest.mark.parametrize("name", sorted(argument_types().keys() - _OURS.keys() - _FIXED.keys()))
def test_a_training_argument_may_change_or_is_refused_by_name(trained: Path, name: str) -> None:
    config = load_config(trained / "config.yaml")
    changed = with_setting(config, "training.arguments", {name: 1})
    if name in ARGUMENTS_THAT_MAY_CHANGE:
        assert resumed_record(changed, trained, newest(trained)).config == changed
        return
    with pytest.raises(UserError, match=rf"cannot resume with training\.arguments\.{name}=1 \(it was null\)"):
        resumed_record(changed, trained, newest(trained))


def test_what_is_refused_is_told_together_with_both_values(toy: Toy, trained: Path) -> None:
    changed = config_of(toy, trained, run={"seed": 43}, training={"batch_size": 2, "weight_decay": 0.0})
    with pytest.raises(UserError) as error:
        resumed_record(changed, trained, newest(trained))
    for told in ("seed=43 (it was 42)", "training.weight_decay=0.0 (it was 0.05)", "× processes=2 (it was 4)"):
        assert told in str(error.value)


# What is not a change


def test_a_checkpoint_that_was_copied_is_the_same(toy: Toy, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(toy.checkpoint, tmp_path / "copied")
    config = replace(load_config(trained / "config.yaml"), init=str(tmp_path / "copied"))
    assert resumed_record(config, trained, newest(trained)).config == config
    (tmp_path / "copied" / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(UserError, match="cannot resume with init="):
        resumed_record(config, trained, newest(trained))


def test_the_same_steps_may_be_shared_out_in_another_way(toy: Toy, trained: Path) -> None:
    changed = config_of(toy, trained, training={"batch_size": 2, "gradient_accumulation_steps": 2, "max_steps": 9})
    record = resumed_record(changed, trained, newest(trained))
    assert record.changes[0]["changed"]["training.batch_size"] == [4, 2]


# What is done with them


def test_a_refused_attempt_replaces_nothing(toy: Toy, run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"cannot resume with seed=43"):
        quietly(config_of(toy, run, run={"seed": 43}), resume=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_files_that_make_another_model_are_refused_before_anything_is_replaced(
    toy: Toy, run: Path, tmp_path: Path
) -> None:
    checkpoint = shutil.copytree(toy.checkpoint, tmp_path / "checkpoint")
    other = read_json(checkpoint / "config.json")
    other["merge_r"] = 3
    (checkpoint / "config.json").write_text(json.dumps(other))
    config = replace(config_of(toy, run, training={"max_steps": 6}), init=str(checkpoint))
    before = (run / "config.yaml").read_bytes()
    with pytest.raises(UserError, match=r"make another model than they did, with merge_r=3 \(it was 4\)"):
        quietly(config, resume=True)
    assert (run / "config.yaml").read_bytes() == before
    assert (run / "training.json").is_file()


def rates_of(run: Path, step: int) -> list[float]:
    state = torch.load(run / "checkpoints" / f"checkpoint-{step}" / "optimizer.pt", weights_only=True)
    return [group["initial_lr"] for group in state["param_groups"]]


def test_the_run_goes_on_with_another_learning_rate(toy: Toy, run: Path) -> None:
    """Every step has the rate that a schedule of the new peak has there, the first one too."""
    training = {"max_steps": 6, "learning_rate": 0.004, "min_learning_rate": 0.001}
    quietly(config_of(toy, run, training=training), resume=True)
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    logged = {line["step"]: line["learning_rate"] for line in lines if "learning_rate" in line}
    # transformers' cosine: progress is (step - warm-up + 1) / (steps - warm-up), of the step before.
    assert logged[6] == pytest.approx(0.001)
    assert logged[5] == pytest.approx(0.001 + 0.003 * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * 3 / 4)).item()))
    assert set(rates_of(run, 6)) == {0.004}


def test_parts_take_their_new_rates(toy: Toy, run: Path) -> None:
    own = LearningRatesConfig(connector=0.002)
    quietly(config_of(toy, run, training={"max_steps": 6, "learning_rates": own}), resume=True)
    assert set(rates_of(run, 6)) == {0.01, 0.002}


def test_changed_intervals_take_effect(toy: Toy, run: Path) -> None:
    """transformers restores those of before."""
    quietly(
        config_of(toy, run, training={"max_steps": 9, "eval_steps": 3, "log_steps": 2, "keep_checkpoints": 5}),
        resume=True,
    )
    assert list(losses(run)) == [1, 2, 3, 4, 6, 8]
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert names == {f"checkpoint-{step}" for step in (2, 4, 6, 9)}


def test_the_record_is_of_what_was_trained(toy: Toy, run: Path) -> None:
    """Resumed from step 4 with another rate, and, as if nothing had been, from step 4 again."""
    other = config_of(toy, run, training={"max_steps": 6, "max_grad_norm": 0.5})
    quietly(other, resume=True)
    changed = {"training.max_steps": [4, 6], "training.max_grad_norm": [1.0, 0.5]}
    assert load_config(run / "config.yaml") == other
    assert read_json(run / "training.json")["changes"] == [{"step": 4, "changed": changed}]
    shutil.rmtree(run / "checkpoints" / "checkpoint-6")
    quietly(config_of(toy, run, training={"max_steps": 6}), resume=True)
    assert read_json(run / "training.json")["changes"] == [{"step": 4, "changed": {"training.max_steps": [4, 6]}}]
    quietly(config_of(toy, run, training={"max_steps": 8, "log_steps": 2}), resume=True)
    assert [entry["step"] for entry in read_json(run / "training.json")["changes"]] == [4, 6]


def test_a_finished_run_keeps_the_config_that_it_was_trained_with(
    toy: Toy, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = load_config(run / "config.yaml")
    quietly(config_of(toy, run, training={"max_steps": 4, "learning_rate": 0.5}), resume=True)
    assert load_config(run / "config.yaml") == replace(before, output_dir=str(run))
    assert "nothing left to train" in caplog.text and "training.learning_rate=0.5 (it was 0.01)" in caplog.text
    assert read_json(run / "training.json")["changes"] == []


def test_a_run_may_end_where_it_was_stopped(toy: Toy, run: Path) -> None:
    quietly(config_of(toy, run, training={"max_steps": 8}), resume=True)
    for step in (8,):
        shutil.rmtree(run / "checkpoints" / f"checkpoint-{step}")
    quietly(config_of(toy, run, training={"max_steps": 6}), resume=True)
    assert load_config(run / "config.yaml").training.max_steps == 6
    assert read_json(run / "training.json")["changes"][-1] == {"step": 6, "changed": {"training.max_steps": [8, 6]}}


def test_fewer_steps_than_were_trained_are_refused(toy: Toy, run: Path) -> None:
    with pytest.raises(UserError, match=r"training\.max_steps=3: it has trained 4 steps"):
        quietly(config_of(toy, run, training={"max_steps": 3}), resume=True)


def test_a_changed_rate_changes_the_weights(toy: Toy, run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    quietly(config_of(toy, run, training={"max_steps": 6}), resume=True)
    quietly(config_of(toy, other, training={"max_steps": 6, "learning_rate": 0.005}), resume=True)
    assert losses(run)[5] == losses(other)[5]  # of the weights before
    ends = [load_file(path / "checkpoints" / "checkpoint-6" / "model.safetensors") for path in (run, other)]
    assert any(not torch.equal(weight, ends[1][name]) for name, weight in ends[0].items())

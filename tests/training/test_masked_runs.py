"""Runs under each visual mask: training, self-critical training and evaluation see what the model was trained with."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_run import Toy, make_trainer, train_toy

from evlvideo.assembly.models import open_model, start_model
from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.config.text import TextConfig
from evlvideo.data.loading.collate import visual_inputs
from evlvideo.errors import UserError
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.models.choices import VISUAL_MASKS
from evlvideo.training.scst.trainer import SelfCriticalTrainer

CAUSAL, FULL, WITH_QUESTION = VISUAL_MASKS
TEXTS = {
    "question": TextConfig(template="Look: {video}{prompt} Answer: {caption}\n", prompt="What happens?"),
    "plain": TextConfig(),
    "nothing before the caption": TextConfig(bos=""),
}
open_masks = pytest.mark.parametrize("mask", [FULL, WITH_QUESTION])


def config_of(toy: Toy, directory: Path, mask: str, stage: str = "caption", **sections: Any) -> RunConfig:
    text = sections.pop("text", TEXTS["plain"])
    return toy.config(directory, model={"visual_mask": mask}, run={"stage": stage, "text": text}, **sections)


@open_masks
@pytest.mark.parametrize("stage", ["caption", "scst"])
def test_a_run_trains_validates_and_evaluates_under_its_mask(toy: Toy, tmp_path: Path, mask: str, stage: str) -> None:
    scst = {"cross_entropy_weight": 0.5, "kl_weight": 0.1}
    run = train_toy(config_of(toy, tmp_path / "run", mask, stage, training={"max_steps": 2}, scst=scst))
    assert json.loads((run / "config.json").read_text())["visual_mask"] == mask
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert all(torch.tensor(line["loss"]).isfinite() for line in lines if "loss" in line)
    assert evaluate(run, split="test", metrics=("cider",)).visual_mask == mask


@open_masks
@pytest.mark.parametrize("texts", TEXTS)
@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_policy_sees_samples_as_they_were_drawn(
    toy: Toy, tmp_path: Path, mask: str, texts: str, weight: float
) -> None:
    """Samples of a nucleus of one token are the likeliest tokens of the teacher-forced pass."""
    scst = {"num_samples": 2, "top_p": 1e-6, "max_new_tokens": 8, "cross_entropy_weight": weight, "kl_weight": 0.1}
    trainer = make_trainer(config_of(toy, tmp_path, mask, "scst", text=TEXTS[texts], scst=scst))
    assert isinstance(trainer, SelfCriticalTrainer)
    batch = trainer.data_collator([trainer.train_dataset[place] for place in range(3)])  # type: ignore[index]
    trainer.roll_out([batch])
    rollout = batch["rollout"]
    samples, references = trainer._logits(trainer.model, batch, rollout)
    assert torch.equal(samples.argmax(dim=-1)[rollout.mask], rollout.tokens[rollout.mask])
    # The model that the run started from is still the same.
    torch.testing.assert_close(
        trainer._start_logits(batch, rollout)[rollout.mask], samples[rollout.mask], atol=1e-5, rtol=1e-5
    )
    if references is None:
        return
    texts_of_batch = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
    loss = trainer.captioner(**visual_inputs(batch), **texts_of_batch).loss
    shifted = torch.nn.functional.cross_entropy(
        references[:, :-1].flatten(0, 1).float(), batch["labels"].flatten(), ignore_index=-100
    )
    torch.testing.assert_close(shifted, loss, atol=1e-5, rtol=1e-5)


def test_a_bos_token_that_soft_tokens_see_is_no_target(toy: Toy, tmp_path: Path) -> None:
    for mask in VISUAL_MASKS:
        _, processor = start_model(config_of(toy, tmp_path, mask), tower_dtype=torch.float32)
        assert (processor.text(["a cat"])["labels"][0, 0] == -100) == (mask == WITH_QUESTION)


def test_a_run_that_makes_it_a_target_is_refused(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"text\.bos_in_loss is true, but with model\.visual_mask=full_with_question"):
        config_of(toy, tmp_path, WITH_QUESTION, text=TextConfig(bos_in_loss=True))


def test_an_unknown_mask_is_refused(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.visual_mask is 'open'; .*causal, full, full_with_question"):
        config_of(toy, tmp_path, "open")


def test_a_finished_run_keeps_its_mask(toy: Toy, tmp_path: Path) -> None:
    run = train_toy(config_of(toy, tmp_path / "run", WITH_QUESTION, training={"max_steps": 1}))
    config = load_config(run / "config.yaml")
    model, processor = open_model(run, config)
    assert model.config.visual_mask == WITH_QUESTION and not processor.bos_in_loss
    again, _ = start_model(toy.config(tmp_path / "next", init=run), tower_dtype=torch.float32)
    assert again.config.visual_mask == WITH_QUESTION

"""What a validation measures beside its captions, from the soft prompts that are captioned."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import (
    BOS,
    END,
    PAD,
    Towers,
    chirp,
    fill,
    half_towers,
    pixels,
    text_batch,
    tiny_model,
    write_towers,
)
from toy_run import Toy, make_trainer, switch_dropout_off
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from evlvideo.inference.captioning import generate_captions
from evlvideo.inference.captions import Caption
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.language import SoftPrompt
from evlvideo.models.tokens.prompt_statistics import PromptSpread, prompt_spread
from evlvideo.models.trainable import is_lora
from evlvideo.training import validation
from evlvideo.training.trainer import CaptionTrainer
from evlvideo.training.validation import Validation, losses_by_mode, summed_loss

SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "bos_token_id": BOS,
    "eos_token_id": END,
    "pad_token_id": PAD,
}
GPT2_SIZES = {"vocab_size": 120, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": BOS, "eos_token_id": END}
FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2_SIZES)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
}
LORA_TARGETS = {"gpt2": ["c_attn"]}

MakeFamily = Callable[[str, bool], EvlVideoForCaptioning]


@pytest.fixture(scope="module")
def of_family(tmp_path_factory: pytest.TempPathFactory) -> MakeFamily:
    """Build a captioner around a language model of a family, in eval mode, with a LoRA that does something."""
    towers = write_towers(tmp_path_factory.mktemp("towers"))

    @cache
    def make(family: str, lora: bool) -> EvlVideoForCaptioning:
        language = towers.language
        if family in FAMILIES:
            language = tmp_path_factory.mktemp(family)
            fill(FAMILIES[family]()).save_pretrained(language)  # type: ignore[operator]
            for file in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(towers.language / file, language)
        changes: dict[str, Any] = {"lora_r": 2, "lora_targets": LORA_TARGETS.get(family)} if lora else {}
        model = tiny_model(Towers(towers.vision, language), **changes)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if is_lora(name):
                    weight.copy_(chirp(*weight.shape, scale=0.3))
        return model

    return make


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")  # GPT-2 has convolutions for linear layers
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("read", [False, True], ids=["plain", "cached"])
@pytest.mark.parametrize("lora", [False, True], ids=["frozen", "lora"])
@pytest.mark.parametrize("family", ["opt", *FAMILIES])
def test_validation_and_training_loss_of_a_batch_are_equal_in_eval_mode(
    of_family: MakeFamily, family: str, lora: bool, read: bool, half: bool
) -> None:
    """To 1e-6 in float32; to 1e-2 in bfloat16, whose keys and values are rounded at other places."""
    model = of_family(family, lora)
    if half:
        model = half_towers(tiny_copy(model))
    frames, texts = pixels(4, 3), text_batch(4)
    length = texts["labels"].shape[1]
    with torch.no_grad():
        trained = model(frames, **texts, logits_to_keep=length + 1).loss
        soft_prompt = model.encode(frames)
        with model.autocast():
            prompt = model.read_prompt(soft_prompt) if read else SoftPrompt.unread(model.language_model, soft_prompt)
    total, targets = summed_loss(model, prompt, texts)
    assert targets == int((texts["labels"] != -100).sum()) == 22
    assert total / targets == pytest.approx(trained.item(), rel=0, abs=1e-2 if half else 1e-6)
    if read and not half and lora:
        assert trained.item() != pytest.approx(loss_without_lora(model, texts), abs=1e-3)


def tiny_copy(model: EvlVideoForCaptioning) -> EvlVideoForCaptioning:
    import copy

    return copy.deepcopy(model)


def loss_without_lora(model: EvlVideoForCaptioning, texts: dict[str, torch.Tensor]) -> float:
    plain = tiny_copy(model)
    with torch.no_grad():
        for name, weight in plain.named_parameters():
            if is_lora(name):
                weight.zero_()
        return float(plain(pixels(4, 3), **texts).loss)


@pytest.fixture
def trainer(toy: Toy, tmp_path: Path) -> CaptionTrainer:
    return make_trainer(toy.config(tmp_path, generation={"batch_size": 3}))


def first_references(trainer: CaptionTrainer) -> dict[str, Any]:
    """The training batch of all validation clips with the first reference of each."""
    dataset: Any = trainer.eval_dataset
    items = [dataset[place] for place in range(len(dataset))]
    return dict(trainer.data_collator([{**item, "caption": item["captions"][0]} for item in items]))


def test_the_validation_loss_is_the_training_loss_of_the_same_captions_in_eval_mode(trainer: CaptionTrainer) -> None:
    """Three clips and one: batches of unequal numbers of targets are not averaged one by one."""
    trainer.evaluate()
    with torch.no_grad():
        expected = trainer.compute_loss(trainer.captioner.eval(), first_references(trainer)).item()
    assert trainer.state.log_history[-1]["validation_loss"] == pytest.approx(expected, rel=0, abs=1e-6)


def test_more_references_are_a_mean_over_the_targets_of_all(
    trainer: CaptionTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third clip has one reference only, and the fourth none."""
    monkeypatch.setattr(validation, "REFERENCES_IN_LOSS", 2)
    validator = trainer.validator
    references = dict(validator.references)
    names = list(references)
    references |= {names[2]: references[names[2]][:1], names[3]: []}
    validator.references = references
    found = validator.validate(trainer.eval_dataset)  # type: ignore[arg-type]
    total, targets = 0.0, 0
    dataset: Any = trainer.eval_dataset
    for place, name in enumerate(names):
        for text in references[name][:2]:
            batch = trainer.processor.text([text])
            with torch.no_grad():
                loss = trainer.captioner.eval()(dataset[place]["pixel_values"].unsqueeze(0), **batch).loss
            total, targets = total + loss.item() * batch["labels"].numel(), targets + batch["labels"].numel()
    assert found.loss == pytest.approx(total / targets, abs=1e-6)


def test_clips_without_references_have_no_loss(trainer: CaptionTrainer) -> None:
    validator = trainer.validator
    found = validator.validate(trainer.eval_dataset)  # type: ignore[arg-type]
    validator.references = {name: [] for name in validator.references}
    without = validator.validate(trainer.eval_dataset)  # type: ignore[arg-type]
    assert without.loss is None and "validation_loss" not in without.log_values()
    assert without.captions == found.captions


def test_captions_are_those_of_an_evaluation(trainer: CaptionTrainer) -> None:
    validator = trainer.validator
    expected = generate_captions(
        trainer.captioner,
        trainer.processor,
        trainer.eval_dataset,  # type: ignore[arg-type]
        validator._generation,
    )
    assert validator.validate(trainer.eval_dataset).captions == expected  # type: ignore[arg-type]


def test_each_clip_passes_through_the_tower_and_its_prompt_is_read_once(
    trainer: CaptionTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("encode", "read_prompt"):
        original = getattr(EvlVideoForCaptioning, name)

        def count(self: Any, given: Any = None, _name: str = name, _original: Any = original, **kwargs: Any) -> Any:
            calls.append(_name)
            return _original(self, given, **kwargs) if given is not None else _original(self, **kwargs)

        monkeypatch.setattr(EvlVideoForCaptioning, name, count)
    trainer.validator.validate(trainer.eval_dataset)  # type: ignore[arg-type]
    assert sorted(calls) == ["encode"] * 2 + ["read_prompt"] * 2


def test_the_spread_is_that_of_all_soft_prompts(trainer: CaptionTrainer) -> None:
    found = trainer.validator.validate(trainer.eval_dataset).spread  # type: ignore[arg-type]
    dataset: Any = trainer.eval_dataset
    frames = torch.stack([dataset[place]["pixel_values"] for place in range(len(dataset))])
    with torch.no_grad():
        expected = prompt_spread(trainer.captioner.eval().encode(frames))
    for name in ("between", "within", "norm"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-4)


def test_the_start_has_the_spread_of_the_first_clips(trainer: CaptionTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "START_CLIPS", 2)
    dataset: Any = trainer.eval_dataset
    with torch.no_grad():
        frames = torch.stack([dataset[place]["pixel_values"] for place in range(2)])
        expected = prompt_spread(trainer.captioner.eval().encode(frames))
    found = trainer.validator.values_at_start(dataset)
    assert found["validation_clips"] == 2
    assert found["validation_prompt_between"] == pytest.approx(expected.between, rel=1e-4)


def validation_of(*texts: str) -> Validation:
    captions = {f"video{place}": Caption(text) for place, text in enumerate(texts)}
    return Validation(captions, cider=0.5, loss=2.0, spread=PromptSpread(1.0, 2.0, 3.0, None))


def test_log_values_count_captions_and_special_tokens() -> None:
    found = validation_of("a cat", "a cat", "a dog with a", "")
    found = replace(found, captions={**found.captions, "video1": Caption("a cat", ("<s>", "<s>"))})
    assert found.log_values() == {
        "validation_cider": 0.5,
        "validation_loss": 2.0,
        "validation_distinct": 0.75,
        "validation_empty": 0.25,
        "validation_bad_endings": 0.5,
        "validation_special_tokens": 2,
        "validation_clips": 4,
        "validation_prompt_between": 1.0,
        "validation_prompt_within": 2.0,
        "validation_prompt_norm": 3.0,
    }


def test_samples_are_of_the_same_clips_at_every_validation() -> None:
    references = {f"video{place}": [f"reference {number}" for number in range(20)] for place in range(5)}
    first = validation_of("a", "b", "c", "d", "e").samples(references)
    second = validation_of("f", "g", "h", "i", "j").samples(references)
    assert [(sample.clip_id, sample.caption) for sample in first] == [("video0", "a"), ("video2", "c")]
    assert [(sample.clip_id, sample.caption) for sample in second] == [("video0", "f"), ("video2", "h")]
    assert first[0].references == ("reference 0", "reference 1", "reference 2")


def test_one_clip_is_one_sample() -> None:
    assert len(validation_of("a").samples({"video0": []})) == 1


def training_batch(trainer: CaptionTrainer) -> dict[str, Any]:
    items: Any = trainer.train_dataset
    batch = trainer.data_collator([items[place] for place in range(8)])
    return {name: batch[name] for name in ("pixel_values", "input_ids", "attention_mask", "labels")}


def test_modes_of_a_model_without_dropout_have_one_loss(trainer: CaptionTrainer) -> None:
    switch_dropout_off(trainer.captioner)
    batch = training_batch(trainer)
    found = losses_by_mode(trainer.captioner, batch)
    with torch.no_grad():
        expected = trainer.captioner(**batch).loss.item()
    assert found == pytest.approx({"batch_loss": expected, "batch_loss_eval_mode": expected}, abs=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_modes_are_compared_without_a_trace(trainer: CaptionTrainer, training: bool) -> None:
    trainer.captioner.train(training)
    state = torch.get_rng_state()
    found = losses_by_mode(trainer.captioner, training_batch(trainer))
    assert found["batch_loss"] != found["batch_loss_eval_mode"]
    assert torch.equal(torch.get_rng_state(), state)
    assert trainer.captioner.training is trainer.captioner.connector.training is training

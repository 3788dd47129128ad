"""Text before the soft prompt, and texts without a BOS token: training, captioning and shared prompts agree."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import (
    END,
    PAD,
    MakeModel,
    Towers,
    chirp,
    fill,
    half_towers,
    open_gates,
    pixels,
    text_batch,
    tiny_model,
)
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from evlvideo.errors import UserError
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.published.evlgen import to_published

PREFIX = [70, 71, 72, 73]
OPENING = torch.tensor([80, 81, 82])
SIZES = {"vocab_size": 120, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
CHANGES: dict[str, Any] = {"prefix_token_ids": PREFIX, "bos_token_id": None}


def language_models() -> dict[str, PreTrainedModel]:
    return {
        "llama": LlamaForCausalLM(LlamaConfig(**SIZES, intermediate_size=64, num_key_value_heads=2)),
        "gpt_neox": GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, intermediate_size=64)),
        "gpt2": GPT2LMHeadModel(GPT2Config(vocab_size=120, n_embd=32, n_layer=2, n_head=4)),
    }


@pytest.fixture(scope="module", params=["opt", "llama", "gpt_neox", "gpt2"])
def language(request: pytest.FixtureRequest, towers: Towers, tmp_path_factory: pytest.TempPathFactory) -> Towers:
    if request.param == "opt":
        return towers
    directory = tmp_path_factory.mktemp(request.param)
    fill(language_models()[request.param]).save_pretrained(directory)  # type: ignore[operator]
    return Towers(towers.vision, directory)


@pytest.fixture(scope="module")
def model(language: Towers) -> EvlVideoForCaptioning:
    return tiny_model(language, **CHANGES)


def text_of(rows: int) -> dict[str, Tensor]:
    """An opening that is no target, and captions of two lengths."""
    batch = text_batch(rows)
    opening = OPENING.expand(rows, -1)
    return {
        "input_ids": torch.cat([opening, batch["input_ids"][:, 1:]], dim=1),
        "attention_mask": torch.cat([torch.ones_like(opening), batch["attention_mask"][:, 1:]], dim=1),
        "labels": torch.cat([torch.full_like(opening, -100), batch["labels"][:, 1:]], dim=1),
    }


def whole(model: EvlVideoForCaptioning, soft_prompt: Tensor, text: dict[str, Tensor]) -> Tensor:
    """Logits of prefix, soft prompt and text in one pass of the language model alone."""
    words = model.language_model.get_input_embeddings()
    rows = len(text["input_ids"])
    prompt = soft_prompt.repeat_interleave(rows // len(soft_prompt), dim=0)
    parts = [words(torch.tensor(PREFIX)).expand(rows, -1, -1), prompt, words(text["input_ids"])]
    before = torch.ones(rows, len(PREFIX) + prompt.shape[1], dtype=torch.long)
    logits: Tensor = model.language_model(
        inputs_embeds=torch.cat(parts, dim=1), attention_mask=torch.cat([before, text["attention_mask"]], dim=1)
    ).logits
    return logits


@pytest.mark.parametrize("texts", [2, 6])
def test_the_prefix_is_read_before_the_soft_prompt(model: EvlVideoForCaptioning, texts: int) -> None:
    soft_prompt, text = model.encode(pixels(2, 3)), text_of(texts)
    kept = text["input_ids"].shape[1] + 1
    found = model(soft_prompt=soft_prompt, **text, logits_to_keep=kept).logits
    mask = torch.cat([torch.ones(texts, 1), text["attention_mask"]], dim=1).bool()
    expected = whole(model, soft_prompt, text)[:, -kept:]
    torch.testing.assert_close(found[mask], expected[mask], atol=2e-5, rtol=1e-5)


def test_a_prompt_that_was_read_before_gives_the_same_loss(model: EvlVideoForCaptioning) -> None:
    soft_prompt, text = model.encode(pixels(2, 3)), text_of(2)
    kept = text["input_ids"].shape[1] + 1
    plain = model(soft_prompt=soft_prompt, **text, logits_to_keep=kept).loss
    cached = model(prompt=model.read_prompt(soft_prompt), **text, logits_to_keep=kept).loss
    torch.testing.assert_close(cached, plain, atol=1e-6, rtol=1e-6)
    assert torch.equal(model(pixels(2, 3), **text, logits_to_keep=kept).loss, plain)


def test_features_give_the_same_loss_as_their_frames(model: EvlVideoForCaptioning) -> None:
    text = text_of(2)
    features = model.vision_tower(pixels(2, 3))
    assert torch.equal(model(features=features, **text).loss, model(pixels(2, 3), **text).loss)


@pytest.mark.parametrize("opening", [OPENING, None], ids=["opening", "no opening"])
def test_captions_are_the_likeliest_by_teacher_forcing(model: EvlVideoForCaptioning, opening: Tensor | None) -> None:
    tokens = model.generate(pixels(2, 3), prompt_ids=opening, max_new_tokens=6, min_new_tokens=6)
    before = OPENING[:0] if opening is None else opening
    text = torch.cat([before.expand(2, -1), tokens], dim=1)
    logits = model(pixels(2, 3), input_ids=text, attention_mask=torch.ones_like(text)).logits[:, -7:-1].clone()
    logits[..., END] = -torch.inf
    assert torch.equal(logits.argmax(dim=-1), tokens)


def test_beams_are_those_of_one_pass_over_everything(model: EvlVideoForCaptioning) -> None:
    soft_prompt = model.encode(pixels(2, 3)).detach()
    words = model.language_model.get_input_embeddings()
    before = words(torch.tensor(PREFIX)).expand(2, -1, -1)
    context = torch.cat([before, soft_prompt, words(OPENING).expand(2, -1, -1)], dim=1)
    expected = model.language_model.generate(
        inputs_embeds=context,
        attention_mask=torch.ones(context.shape[:2], dtype=torch.long),
        max_new_tokens=6,
        num_beams=3,
        do_sample=False,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    found = model.generate(soft_prompt=soft_prompt, prompt_ids=OPENING, max_new_tokens=6, num_beams=3)
    assert torch.equal(found, expected)


def test_gradients_pass_the_prefix_by(model: EvlVideoForCaptioning) -> None:
    text, gradients = text_of(6), []
    kept = text["input_ids"].shape[1] + 1
    mask = torch.cat([torch.ones(6, 1), text["attention_mask"]], dim=1).bool()
    for read in (
        lambda prompt: model(soft_prompt=prompt, **text, logits_to_keep=kept).logits,
        lambda prompt: whole(model, prompt, text)[:, -kept:],
    ):
        soft_prompt = model.encode(pixels(2, 3)).detach().requires_grad_()
        logits = read(soft_prompt)[mask]
        (logits * chirp(*logits.shape)).sum().backward()
        gradients.append(soft_prompt.grad)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


def test_gradient_checkpointing_changes_nothing(make_model: MakeModel) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = open_gates(make_model(**CHANGES, contextualizer="merged", fusion="concat"))
        if checkpointing:
            model.activation_checkpointing_enable()
        model(pixels(2, 2), **text_of(2)).loss.backward()
        gradients.append(model.language_projection.weight.grad)
    torch.testing.assert_close(*gradients)


def test_half_precision_towers_read_the_prefix_too(make_model: MakeModel) -> None:
    model = half_towers(make_model(**CHANGES))
    loss = model(pixels(2, 3), **text_of(6), logits_to_keep=10).loss
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert model.generate(pixels(2, 3), prompt_ids=OPENING, max_new_tokens=4, num_beams=2).shape[0] == 2


def test_a_text_of_nothing_is_predicted_from_the_soft_prompt(make_model: MakeModel) -> None:
    """As for a sample of one token that nothing stands before."""
    model = make_model(**CHANGES)
    nothing = torch.zeros(4, 0, dtype=torch.long)
    soft_prompt = model.encode(pixels(2, 3))
    logits = model(soft_prompt=soft_prompt, input_ids=nothing, attention_mask=nothing, logits_to_keep=1).logits
    first = model.generate(soft_prompt=soft_prompt, max_new_tokens=1)
    assert torch.equal(logits[:, -1].argmax(dim=-1), first.squeeze(1).repeat_interleave(2))


def test_the_prefix_counts_among_the_positions(make_model: MakeModel) -> None:
    model = make_model(**CHANGES | {"prefix_token_ids": [70] * 300})
    with pytest.raises(UserError, match="positions"):
        model.generate(pixels(1, 2), max_new_tokens=2)
    with pytest.raises(UserError, match="positions"):
        model(pixels(2, 2), **text_of(2))


def test_a_checkpoint_keeps_its_prefix(make_model: MakeModel, tmp_path: Path) -> None:
    model = make_model(**CHANGES)
    model.save_pretrained(tmp_path)
    opened = EvlVideoForCaptioning.from_pretrained(tmp_path)
    assert torch.equal(opened(pixels(2, 3), **text_of(2)).loss, model(pixels(2, 3), **text_of(2)).loss)


def test_older_checkpoints_have_none(make_model: MakeModel, tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values.pop("prefix_token_ids", None)
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert EvlVideoForCaptioning.from_pretrained(tmp_path).config.prefix_token_ids is None


def test_published_code_knows_no_other_texts(make_model: MakeModel) -> None:
    with pytest.raises(UserError, match="bos_token_id is None; it has one, in plain texts"):
        to_published(make_model(**CHANGES))


class TestSettingsOfTheLanguageModel:
    """What its files say about generation has no effect on captions."""

    SETTINGS: dict[str, Any] = {  # noqa: RUF012
        "no_repeat_ngram_size": 1,
        "repetition_penalty": 5.0,
        "eos_token_id": [END, 40, 41, 42, 43, 44, 45],
        "bad_words_ids": [[50], [51], [52]],
        "forced_eos_token_id": END,
        "suppress_tokens": list(range(60, 100)),
        "early_stopping": True,
        "max_length": 9,
        "min_new_tokens": 3,
        "num_return_sequences": 1,
        "do_sample": True,
        "temperature": 0.1,
    }

    @pytest.fixture
    def told(self, towers: Towers, tmp_path: Path) -> EvlVideoForCaptioning:
        directory = tmp_path / "llm"
        shutil.copytree(towers.language, directory)
        (directory / "generation_config.json").write_text(json.dumps(self.SETTINGS))
        return tiny_model(Towers(towers.vision, directory))

    @pytest.mark.parametrize("decoding", [{}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}])
    def test_captions_are_the_same(
        self, told: EvlVideoForCaptioning, make_model: MakeModel, decoding: dict[str, Any]
    ) -> None:
        expected = make_model().generate(pixels(2, 3), max_new_tokens=12, **decoding)
        assert torch.equal(told.generate(pixels(2, 3), max_new_tokens=12, **decoding), expected)

    def test_a_checkpoint_drops_them_too(
        self, told: EvlVideoForCaptioning, make_model: MakeModel, tmp_path: Path
    ) -> None:
        told.save_pretrained(tmp_path / "checkpoint")
        opened = EvlVideoForCaptioning.from_pretrained(tmp_path / "checkpoint")
        expected = make_model().generate(pixels(2, 3), max_new_tokens=12)
        assert torch.equal(opened.generate(pixels(2, 3), max_new_tokens=12), expected)

    def test_settings_in_the_models_own_configuration_are_dropped(
        self, towers: Towers, make_model: MakeModel, tmp_path: Path
    ) -> None:
        directory = tmp_path / "llm"
        shutil.copytree(towers.language, directory)
        values = json.loads((directory / "config.json").read_text())
        (directory / "config.json").write_text(json.dumps(values | {"no_repeat_ngram_size": 1, "num_beams": 4}))
        model = tiny_model(Towers(towers.vision, directory))
        expected = make_model().generate(pixels(2, 3), max_new_tokens=12)
        assert torch.equal(model.generate(pixels(2, 3), max_new_tokens=12), expected)

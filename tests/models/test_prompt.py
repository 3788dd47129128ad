"""The soft prompt is read once a clip; what follows is as if it were read with every text."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import BOS, END, MakeModel, Towers, chirp, fill, pixels, text_batch, tiny_model
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from evlvideo.models.captioner import EvlVideoForCaptioning

SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "bos_token_id": BOS,
    "eos_token_id": END,
    "pad_token_id": 1,
}


def other_language_models() -> dict[str, PreTrainedModel]:
    return {
        "llama": LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=2)),
        # A window that is shorter than the soft prompt.
        "mistral": MistralForCausalLM(MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=6)),
        "gpt2": GPT2LMHeadModel(
            GPT2Config(vocab_size=120, n_embd=32, n_layer=2, n_head=4, bos_token_id=BOS, eos_token_id=END)
        ),
    }


@pytest.fixture(scope="module", params=["opt", "llama", "mistral", "gpt2"])
def model(request: pytest.FixtureRequest, towers: Towers, tmp_path_factory: pytest.TempPathFactory) -> Any:
    if request.param == "opt":
        return tiny_model(towers)
    directory: Path = tmp_path_factory.mktemp(request.param)
    fill(other_language_models()[request.param]).save_pretrained(directory)  # type: ignore[operator]
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(towers.language / file, directory)
    return tiny_model(Towers(towers.vision, directory))


def whole(model: EvlVideoForCaptioning, soft_prompt: Tensor, text: dict[str, Tensor], times: int) -> Tensor:
    """Logits of the last soft token and the text, the prompt read with every text: by the language model alone."""
    embeddings = model.language_model.get_input_embeddings()(text["input_ids"])
    prompt = soft_prompt.repeat_interleave(times, dim=0)
    mask = torch.cat([torch.ones(prompt.shape[:2], dtype=torch.long), text["attention_mask"]], dim=1)
    logits: Tensor = model.language_model(
        inputs_embeds=torch.cat([prompt, embeddings], dim=1), attention_mask=mask
    ).logits
    return logits[:, -embeddings.shape[1] - 1 :]


def texts(rows: int) -> dict[str, Tensor]:
    """Two lengths by turns, so that one of them is padded."""
    return text_batch(rows)


def test_texts_after_a_prompt_that_was_read_once_have_the_same_logits(model: EvlVideoForCaptioning) -> None:
    soft_prompt, text = model.encode(pixels(2, 3)), texts(6)
    length = text["input_ids"].shape[1]
    found = model(soft_prompt=soft_prompt, **text, logits_to_keep=length + 1).logits
    # What stands at padding is of no meaning.
    mask = torch.cat([torch.ones(6, 1), text["attention_mask"]], dim=1).bool()
    torch.testing.assert_close(found[mask], whole(model, soft_prompt, text, 3)[mask], atol=2e-5, rtol=1e-5)


def test_the_prompt_has_the_same_gradient(model: EvlVideoForCaptioning) -> None:
    text = texts(6)
    kept = text["input_ids"].shape[1] + 1
    gradients = []
    for read in (
        lambda prompt: model(soft_prompt=prompt, **text, logits_to_keep=kept).logits,
        lambda prompt: whole(model, prompt, text, 3),
    ):
        soft_prompt = model.encode(pixels(2, 3)).detach().requires_grad_()
        mask = torch.cat([torch.ones(6, 1), text["attention_mask"]], dim=1).bool()
        logits = read(soft_prompt)[mask]
        (logits * chirp(*logits.shape)).sum().backward()
        gradients.append(soft_prompt.grad)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "decoding",
    [{}, {"num_beams": 3}, {"num_beams": 3, "num_return_sequences": 3, "length_penalty": 2.0}, {"min_new_tokens": 6}],
)
def test_captions_are_those_of_a_prefix_read_for_every_beam(
    model: EvlVideoForCaptioning, decoding: dict[str, Any]
) -> None:
    soft_prompt = model.encode(pixels(2, 3)).detach()
    opening = model.language_model.get_input_embeddings()(torch.full((2, 1), BOS))
    prefix = torch.cat([soft_prompt, opening], dim=1)
    expected = model.language_model.generate(
        inputs_embeds=prefix,
        attention_mask=torch.ones(prefix.shape[:2], dtype=torch.long),
        max_new_tokens=8,
        do_sample=False,
        eos_token_id=END,
        pad_token_id=1,
        **decoding,
    )
    assert torch.equal(model.generate(soft_prompt=soft_prompt, max_new_tokens=8, **decoding), expected)


def test_reading_on_leaves_the_prompt_as_it_was(model: EvlVideoForCaptioning) -> None:
    prompt = model.read_prompt(model.encode(pixels(2, 3)))
    before = prompt.cache.get_seq_length()
    text = texts(4)
    kept = text["input_ids"].shape[1] + 1
    first = model(prompt=prompt, **text, logits_to_keep=kept).logits
    captions = model.generate(prompt=prompt, max_new_tokens=5)
    assert prompt.cache.get_seq_length() == before
    assert torch.equal(model(prompt=prompt, **text, logits_to_keep=kept).logits, first)
    assert torch.equal(model.generate(prompt=prompt, max_new_tokens=5), captions)


def test_a_detached_prompt_has_no_gradient_and_leaves_the_other_with_its_own(make_model: MakeModel) -> None:
    model = make_model()
    prompt = model.read_prompt(model.encode(pixels(1, 2)))
    detached = prompt.detached()
    assert prompt.embeddings.requires_grad and prompt.cache.layers[0].keys.requires_grad  # type: ignore[union-attr]
    assert not detached.embeddings.requires_grad
    assert not any(layer.keys.requires_grad for layer in detached.cache.layers)  # type: ignore[union-attr]


def test_a_prompt_of_one_token_is_read_with_the_text(make_model: MakeModel) -> None:
    model = make_model()
    soft_prompt, text = model.encode(pixels(2, 3))[:, :1], texts(4)
    kept = text["input_ids"].shape[1] + 1
    prompt = model.read_prompt(soft_prompt)
    assert prompt.cache.get_seq_length() == 0
    found = model(prompt=prompt, **text, logits_to_keep=kept).logits
    torch.testing.assert_close(found, whole(model, soft_prompt, text, 2))
    assert model.generate(prompt=prompt, max_new_tokens=4, num_beams=2).shape == (2, 4)


def test_the_language_model_reads_the_prompt_of_a_clip_once(make_model: MakeModel) -> None:
    model = make_model()
    read: list[tuple[int, ...]] = []
    first_layer = model.language_model.model.decoder.layers[0]
    first_layer.register_forward_pre_hook(lambda module, inputs: read.append(tuple(inputs[0].shape[:2])))
    soft_prompt, text = model.encode(pixels(2, 3)), texts(10)
    soft_tokens, length = soft_prompt.shape[1], text["input_ids"].shape[1]
    model(soft_prompt=soft_prompt, **text, logits_to_keep=length + 1)
    assert read == [(2, soft_tokens - 1), (10, 1 + length)]
    read.clear()
    model.generate(soft_prompt=soft_prompt, num_beams=5, max_new_tokens=3)
    assert read == [(2, soft_tokens - 1), (10, 2), (10, 1), (10, 1)]

"""Which language models take a visual mask is tried, not listed; the others are refused in a sentence."""

from typing import Any

import pytest
import torch
from tiny_families import SERVING, make_family, small
from tiny_models import MakeConfig, chirp
from transformers import AutoConfig, AutoModelForCausalLM, FalconConfig, GPTNeoConfig, MistralConfig, OPTConfig

from evlvideo.errors import UserError
from evlvideo.models.choices import VISUAL_MASKS
from evlvideo.models.language import SoftPrompt, before_caption, read_texts
from evlvideo.models.text.visual_mask import check_takes_blocks

CAUSAL, FULL, WITH_QUESTION = VISUAL_MASKS
REFUSED = ("bloom", "mistral", "gemma2", "gemma3_text", "gpt_oss")


@pytest.mark.parametrize("kind", SERVING)
@pytest.mark.parametrize("mask", [FULL, WITH_QUESTION])
@torch.no_grad()
def test_what_is_accepted_captions_as_it_trains(kind: str, mask: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(small(kind, SERVING[kind])).eval()
    if kind in REFUSED:
        with pytest.raises(UserError, match=rf"\({kind}\) .*; set model.visual_mask to causal"):
            check_takes_blocks(model)
        return
    check_takes_blocks(model)
    soft = torch.randn(2, 5, 32) * 0.3
    prompt = SoftPrompt.read(model, soft, visual_mask=mask)
    ids = torch.tensor([[60, 61, 62], [1, 1, 63]])
    context, seen = before_caption(model, prompt, None, ids, (ids != 1).long())
    drawn: Any = model.generate(
        inputs_embeds=context,
        attention_mask=seen,
        cache=prompt.read_with(model, context, seen).cache,
        max_new_tokens=3,
        min_new_tokens=3,
        pad_token_id=1,
        eos_token_id=2,
        output_logits=True,
        return_dict_in_generate=True,
    )
    for row, opening in enumerate((3, 1)):
        text = torch.cat([ids[row, 3 - opening :], drawn.sequences[row, :-1]])[None]
        alone = SoftPrompt.unread(model, soft[[row]], visual_mask=mask)
        expected = read_texts(model, alone, text, torch.ones_like(text), 3, opening)[0]
        torch.testing.assert_close(torch.stack(drawn.logits, dim=1)[row], expected, atol=1e-4, rtol=1e-4)


def test_a_sliding_window_is_refused_before_anything_is_built(make_config: MakeConfig) -> None:
    text = MistralConfig(sliding_window=8)
    assert make_config(text_config=text).visual_mask == CAUSAL
    with pytest.raises(UserError, match=r"visual_mask is 'full', but the language model \(mistral\) .*sliding window"):
        make_config(text_config=text, visual_mask=FULL)


def test_an_attention_that_takes_no_mask_is_refused(make_config: MakeConfig) -> None:
    text = OPTConfig(attn_implementation="flash_attention_2")
    with pytest.raises(UserError, match=r"flash_attention_2, and only sdpa and eager"):
        make_family("opt", make_config, visual_mask=FULL).config.changed(text_config=text)
    model = make_family("opt", make_config, visual_mask=FULL)
    model.language_model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(UserError, match=r"flash_attention_2, and only sdpa and eager"):
        model.read_prompt(chirp(1, 3, 40))


SMALL = {"hidden_size": 40, "num_hidden_layers": 2, "vocab_size": 120}


@pytest.mark.parametrize(
    "text",
    [
        AutoConfig.for_model("bloom", hidden_size=40, n_layer=2, n_head=4, vocab_size=120),
        FalconConfig(**SMALL, num_attention_heads=4, alibi=True, new_decoder_architecture=False),
        GPTNeoConfig(**SMALL, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=8),
    ],
    ids=lambda config: config.model_type,
)
def test_a_language_model_with_ideas_of_its_own_is_refused(text: Any) -> None:
    with pytest.raises(UserError, match=rf"\({text.model_type}\) .*set model.visual_mask to causal"):
        check_takes_blocks(AutoModelForCausalLM.from_config(text).eval())

"""Which language models can continue a soft prompt is told from their configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_families import SERVING, small
from tiny_models import Towers, tiny_config
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from evlvideo.errors import UserError
from evlvideo.models.language import SoftPrompt, before_caption, read_texts
from evlvideo.models.sources.language import check_language_model
from evlvideo.models.towers import check_towers, read_text_config

REFUSED = {
    "an encoder-decoder": ["t5", "bart", "mbart", "pegasus", "marian", "whisper", "blenderbot"],
    "an encoder": ["bert", "roberta", "electra", "xlm-roberta", "modernbert", "deberta-v2", "xlm"],
    "no language model": ["vit", "clip", "wav2vec2", "dinov2"],
    "pictures or sounds": ["gemma3", "git", "phi4_multimodal", "moshi"],
    "a running state": ["mamba", "mamba2", "falcon_mamba", "rwkv", "jamba", "bamba", "recurrent_gemma", "qwen3_next"],
    "embeddings": ["openai-gpt", "ctrl", "cpmant", "xlnet"],
}


@pytest.mark.parametrize("kind", SERVING)
@torch.no_grad()
def test_what_is_accepted_continues_a_soft_prompt(kind: str) -> None:
    config = small(kind, SERVING[kind])
    check_language_model(kind, config)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    model.generation_config = GenerationConfig()
    words: Callable[..., Any] = model.get_input_embeddings()
    soft, ids = torch.randn(2, 5, 32) * 0.3, torch.randint(3, 100, (4, 4))
    everything = torch.cat([soft.repeat_interleave(2, dim=0), words(ids)], dim=1)
    expected = model(inputs_embeds=everything, use_cache=False).logits[:, -5:]
    read = read_texts(model, SoftPrompt.read(model, soft), ids, torch.ones_like(ids), 5)
    torch.testing.assert_close(read, expected, atol=1e-4, rtol=1e-4)
    for beams in (1, 2):
        prompt = SoftPrompt.read(model, soft)
        context, mask = before_caption(model, prompt, 2, None)
        made = model.generate(
            inputs_embeds=context,
            attention_mask=mask,
            cache=prompt.repeated(beams).cache,
            num_beams=beams,
            max_new_tokens=2,
            pad_token_id=1,
        )
        if beams == 1:
            first = model(inputs_embeds=context, use_cache=False).logits[:, -1].argmax(dim=-1)
            assert torch.equal(made[:, 0], first)


@pytest.mark.parametrize(("why", "kind"), [(why, kind) for why, kinds in REFUSED.items() for kind in kinds])
def test_what_cannot_serve_is_refused(why: str, kind: str) -> None:
    with pytest.raises(UserError, match=rf"The language model 'a/b' \({kind}\) .*{why}.*; name a decoder alone"):
        check_language_model("a/b", AutoConfig.for_model(kind))


def test_decoders_of_families_with_encoders_are_accepted() -> None:
    check_language_model("a/b", AutoConfig.for_model("bert", is_decoder=True))


def test_sizes_in_an_architecture_are_of_one_that_serves(towers: Towers) -> None:
    config = tiny_config(towers, text_config={"model_type": "mamba", "hidden_size": 32})
    with pytest.raises(UserError, match=r"\(mamba\) keeps a running state"):
        check_towers(config)


def test_it_is_told_before_anything_is_built(tmp_path: Path, towers: Towers) -> None:
    from evlvideo.estimate.costs import estimate
    from evlvideo.estimate.records import Workload
    from evlvideo.models.captioner import EvlVideoForCaptioning

    AutoConfig.for_model("t5").save_pretrained(tmp_path)
    config = tiny_config(towers, language_model=str(tmp_path))
    workload = Workload(2, 1, captions_per_clip=1, text_tokens=8, num_beams=1, new_tokens=8, precision="fp32")
    for start in (
        lambda: read_text_config(str(tmp_path)),
        lambda: EvlVideoForCaptioning.from_towers(config),
        lambda: estimate(config, workload),
    ):
        with pytest.raises(UserError, match=r"\(t5\) is an encoder-decoder"):
            start()

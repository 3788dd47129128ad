"""Random language models of many families, and captioners with those of four."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from tiny_models import PAD, MakeConfig
from torch import Tensor
from transformers import AutoConfig, GPT2Config, LlamaConfig, OPTConfig, PreTrainedConfig, Qwen2Config

from evlvideo.models.captioner import EvlVideoForCaptioning

FAMILY_SIZES = {
    "vocab_size": 120,
    "tie_word_embeddings": False,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "hidden_size": 40,
}
FAMILIES: dict[str, PreTrainedConfig] = {
    "opt": OPTConfig(**FAMILY_SIZES, ffn_dim=80, word_embed_proj_dim=40, max_position_embeddings=80),
    "llama": LlamaConfig(**FAMILY_SIZES, intermediate_size=80),
    "qwen": Qwen2Config(**FAMILY_SIZES, intermediate_size=80, num_key_value_heads=2),
    "gpt2": GPT2Config(vocab_size=120, tie_word_embeddings=False, n_layer=2, n_head=4, n_embd=40, n_positions=80),
}
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "vocab_size": 120,
    "max_position_embeddings": 64,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 2,
}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 120}
SERVING: dict[str, dict[str, Any]] = {
    "opt": {**SIZES, "ffn_dim": 64, "word_embed_proj_dim": 32},
    "gpt2": GPT,
    "gptj": {**GPT, "rotary_dim": 4},
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 120},
    "gpt_neox": SIZES,
    **dict.fromkeys(
        ("llama", "mistral", "gemma", "gemma2", "gemma3_text", "qwen2", "qwen3", "phi", "phi3", "stablelm", "smollm3"),
        SIZES,
    ),
    "lfm2": SIZES,
    "gpt_oss": {**SIZES, "num_local_experts": 4, "num_experts_per_tok": 2},
}
QUESTIONS = [[71, 72, 6, 30, 31, 90, 12], [40], [50, 51, 52, 9]]
MakeFamily = Callable[..., EvlVideoForCaptioning]


def small(kind: str, sizes: dict[str, Any]) -> PreTrainedConfig:
    """A tiny configuration of a type of language model."""
    known = AutoConfig.for_model(kind)
    return AutoConfig.for_model(kind, **{name: value for name, value in sizes.items() if hasattr(known, name)})


def make_family(family: str, make_config: MakeConfig, **changes: Any) -> EvlVideoForCaptioning:
    """A captioner whose weights are of a size at which questions and clips change the answer."""
    torch.manual_seed(3)
    model = EvlVideoForCaptioning(make_config(text_config=copy.deepcopy(FAMILIES[family]), **changes)).eval()
    for name, weight in model.named_parameters():
        if weight.dim() >= 2:
            torch.nn.init.normal_(weight, std=(2.0 if "embed_tokens" in name else 1.5) * weight[0].numel() ** -0.5)
    return model


def padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Rows padded on the left, and their mask."""
    length = max(map(len, rows))
    ids = torch.tensor([[PAD] * (length - len(row)) + row for row in rows])
    return ids, torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])

"""Toy towers and captioners whose weights are formulas."""

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.connectors.tomeformer import TomeFormer
from evlvideo.models.trainable import tower_of

FIXTURES = Path(__file__).parents[1] / "fixtures"

VISION = "vit_tiny_patch16_224"
VISION_SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4}
BERT_SIZES = {
    "hidden_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position_embeddings": 20,
    "vocab_size": 30,
}
MERGE_R = 3
NUM_TOKENS = 17
NUM_MERGED_TOKENS = NUM_TOKENS - 2 * MERGE_R
PAD, BOS, UNKNOWN, END = 1, 2, 3, 5

MakeConfig = Callable[..., EvlVideoConfig]
MakeModel = Callable[..., EvlVideoForCaptioning]
every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.needs_cuda)])


def chirp(*shape: int, offset: float = 0.0, scale: float = 1.0) -> Tensor:
    """Values in −scale…scale that look drawn at random and come from a formula."""
    place = torch.arange(1, math.prod(shape) + 1, dtype=torch.float64)
    return (scale * torch.sin(0.7391 * place * place + offset)).float().reshape(shape)


@torch.no_grad()
def fill(module: nn.Module) -> nn.Module:
    """Set all weights by formula, of a size that lets signals through; gates and frame positions stay as they are."""
    for place, (name, weight) in enumerate(module.named_parameters()):
        if name.endswith("alpha") or "frame_positions" in name:
            continue
        if weight.dim() >= 2:
            weight.copy_(chirp(*weight.shape, offset=place, scale=2 * weight[0].numel() ** -0.5))
        else:
            weight.copy_(chirp(*weight.shape, offset=place, scale=0.1) + float(name.endswith("weight")))
    return module


@torch.no_grad()
def open_gates(module: nn.Module, alpha: float = 0.7) -> nn.Module:
    """Set gates and frame positions to what training might have made of them."""
    for name, weight in module.named_parameters():
        if name.endswith("alpha"):
            weight.fill_(alpha)
        elif "frame_positions" in name:
            weight.copy_(chirp(*weight.shape))
    return module


def shuffled(x: Tensor) -> Tensor:
    """The frames `(B, 4, …)` in another order."""
    return x[:, [2, 0, 3, 1]]


def pixels(batch: int, frames: int, size: int = 32) -> Tensor:
    """Frames by formula, `(B, T, 3, size, size)`."""
    return chirp(batch, frames, 3, size, size)


def character_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, with OPT's special tokens, in the 120 tokens of the fixtures' language model."""
    vocabulary = {"<s>": 0, "<pad>": PAD, "</s>": BOS, "<unk>": UNKNOWN, "<mask>": 4, "\n": END}
    vocabulary |= {chr(code): len(vocabulary) + code - 32 for code in range(32, 127)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="</s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )


@dataclass(frozen=True)
class Towers:
    """Files of the frozen towers."""

    vision: Path
    language: Path


def write_towers(directory: Path) -> Towers:
    """Write a tiny ViT, and the fixtures' OPT with a tokenizer."""
    vision, language = directory / "vit.safetensors", directory / "llm"
    save_file(fill(timm.create_model(VISION, num_classes=0, **VISION_SIZES)).state_dict(), vision)
    shutil.copytree(FIXTURES / "opt-image" / "llm", language)
    character_tokenizer().save_pretrained(language)
    return Towers(vision, language)


def tiny_config(towers: Towers, **changes: Any) -> EvlVideoConfig:
    """A captioner's configuration, image-like but for `changes`."""
    values: dict[str, Any] = {
        "vision_tower": VISION,
        "vision_overrides": VISION_SIZES,
        "vision_weights": str(towers.vision),
        "vision_final_norm": True,
        "language_model": str(towers.language),
        "bert_config": BERT_SIZES,
        "merge_r": MERGE_R,
        "bos_token_id": BOS,
        "end_token_id": END,
        "pad_token_id": PAD,
    }
    return EvlVideoConfig(**(values | changes))


def trained_parts(model: EvlVideoForCaptioning) -> list[nn.Module]:
    """The modules outside the frozen towers."""
    outside = [module for name, module in model.named_children() if name not in ("vision_tower", "language_model")]
    # Each part of a TomeFormer on its own: its formula counts weights from the part's first.
    return [part for module in outside for part in (module.children() if isinstance(module, TomeFormer) else (module,))]


def tiny_model(towers: Towers, **changes: Any) -> EvlVideoForCaptioning:
    """A captioner in eval mode whose trained weights are formulas; gates are closed."""
    model = EvlVideoForCaptioning.from_towers(tiny_config(towers, **changes))
    for module in trained_parts(model):
        fill(module)
    for name, module in model.vision_tower.named_modules():
        if name.endswith(("temporal_merge.query", "temporal_merge.key")):
            fill(module)
    return model


def half_towers(model: EvlVideoForCaptioning) -> EvlVideoForCaptioning:
    """Keep the frozen towers in bfloat16, which the model computes in then."""
    for name, weight in model.named_parameters():
        if tower_of(name) is not None:
            weight.data = weight.data.bfloat16()
    return model


def text_batch(batch: int = 2) -> dict[str, Tensor]:
    """Text inputs of two lengths, padded on the right."""
    rows = [[BOS, 70, 71, 72, 6, 80, END], [BOS, 90, 91, END, PAD, PAD, PAD]]
    input_ids = torch.tensor([rows[place % 2] for place in range(batch)])
    attention_mask = (input_ids != PAD).long()
    return {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "labels": input_ids.masked_fill(attention_mask == 0, -100),
    }

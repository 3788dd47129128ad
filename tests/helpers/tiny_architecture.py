"""Tiny architectures, and batches of a workload with values."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import OPTConfig

from evlvideo.estimate.costs import estimate
from evlvideo.estimate.records import Estimate, Workload
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.connectors import TOMEFORMER

VARIANTS: dict[str, dict[str, Any]] = {
    "image": {},
    "in_tower": {"contextualizer": "in_tower", "frame_positions": True},
    "one_block": {"contextualizer": "in_tower", "contextualizer_blocks": [1]},
    "merged": {"contextualizer": "merged", "fusion": "concat"},
}
CONNECTORS: dict[str, dict[str, Any]] = {
    "blip2": {"connector": "blip2", "fusion": "concat", "connector_options": {"num_queries": 5}},
    "video_llama": {"connector": "video_llama", "connector_options": {"num_queries": 5, "video_queries": 4}},
    "videochat": {
        "connector": "videochat",
        "connector_options": {"num_queries": 5, "extra_queries": 3, "relation_blocks": 2, "relation_heads": 4},
    },
    "videochat_in_tower": {
        "connector": "videochat",
        "connector_options": {"num_queries": 5, "relation_blocks": 2, "relation_heads": 4, "train_qformer": True},
        "contextualizer": "in_tower",
    },
    "video_coca": {"connector": "video_coca", "connector_options": {"num_queries": 6, "num_heads": 4}},
    "mlp": {"connector": "mlp", "fusion": "concat"},
    "pixel_shuffle": {"connector": "pixel_shuffle", "fusion": "concat"},
    "linear": {"connector": "linear", "fusion": "mean_tokens"},
    "average_pool": {"connector": "average_pool", "fusion": "concat", "connector_options": {"side": 2}},
}
"""Variants with a connector beside the TomeFormer."""
BERT_SIZES = {
    "hidden_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "max_position_embeddings": 20,
    "vocab_size": 30,
}
SMALL_LLAMA = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 50,
}
PAD, BOS, END = 1, 2, 5
NUM_TOKENS = 17


def tiny_config(**changes: Any) -> EvlVideoConfig:
    """A captioner's configuration, EVLGen's but for the sizes and `changes`."""
    values: dict[str, Any] = {
        "vision_tower": "vit_tiny_patch16_224",
        "vision_overrides": {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 4},
        "text_config": OPTConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            ffn_dim=64,
            vocab_size=50,
            word_embed_proj_dim=32,
            max_position_embeddings=96,
        ),
        "bert_config": BERT_SIZES,
        "merge_r": 3 if changes.get("connector", TOMEFORMER) == TOMEFORMER else None,
        "bos_token_id": BOS,
        "end_token_id": END,
        "pad_token_id": PAD,
    }
    return EvlVideoConfig(**(values | changes))


def workload(**changes: Any) -> Workload:
    """A small one."""
    values: dict[str, Any] = {
        "num_frames": 2,
        "batch_size": 3,
        "captions_per_clip": 2,
        "text_tokens": 7,
        "num_beams": 3,
        "new_tokens": 6,
        "precision": "fp32",
    }
    return Workload(**(values | changes))


def real_model(config: EvlVideoConfig) -> EvlVideoForCaptioning:
    """With weights at random."""
    torch.manual_seed(0)
    return EvlVideoForCaptioning(config)


def real_batch(asked: Workload) -> dict[str, Tensor]:
    """With values, of texts of different lengths."""
    torch.manual_seed(0)
    ids = torch.randint(6, 50, (asked.batch_size * asked.captions_per_clip, asked.text_tokens))
    ids[0, -2:] = PAD
    return {
        "pixel_values": torch.randn(asked.batch_size, asked.num_frames, 3, 32, 32),
        "input_ids": ids,
        "attention_mask": (ids != PAD).long(),
        "labels": ids.masked_fill(ids == PAD, -100),
    }


@cache
def costs_of(variant: str, **asked: Any) -> Estimate:
    """The estimate of a variant for a small workload with changes."""
    return estimate(tiny_config(**(VARIANTS | CONNECTORS)[variant]), workload(**asked))

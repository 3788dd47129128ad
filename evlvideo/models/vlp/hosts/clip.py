"""CLIP's two sides, from transformers' model.

Notation: `B` pairs, `T` frames, `S` tokens of a text, `N` tokens of a frame, `D` channels of the tower, `C` of
contrast.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import CLIPModel

from evlvideo.models.blocks.prunable_towers import ClipTower, text_in_tower_width
from evlvideo.models.vlp.hosts.matching import unit
from evlvideo.models.vlp.images import Guidance, encode_clips


def clip_text_features(host: CLIPModel, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Encode and project texts, `(B, S)` → unit vectors `(B, C)`."""
    pooled: Any = host.text_model(input_ids=input_ids, attention_mask=attention_mask).pooler_output
    return unit(host.text_projection(pooled))


def clip_tokens(
    host: CLIPModel,
    clips: Tensor,
    guidance: Guidance | None = None,
    texts: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Encode clips; `texts` are features of :func:`clip_text_features`. Returns `(B, T, N, D)`."""
    guides = None if texts is None or guidance is None else text_in_tower_width(texts, host.visual_projection)
    return encode_clips(ClipTower(host.vision_model), clips, guidance, guides, generator)

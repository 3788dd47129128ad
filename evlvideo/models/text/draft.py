"""Drafts: a captioner's first captions of clips, by which its tower prunes the second time.

Notation: `B` clips, `T` frames, `E` width of the language model, `L` tokens, `D` channels of the tower.
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

DRAFT_TOKENS = 30
"""Longest draft, in tokens."""


@torch.no_grad()
def draft_guide(model: Any, pixel_values: Tensor) -> Tensor | None:
    """Caption clips greedily from a tower that the class token guides, and make a guide of the captions.

    Training has no drafts: they would be those of a model that changes with every step, and cost a caption each.

    Args:
        model: a :class:`~evlvideo.models.captioner.EvlVideoForCaptioning`.
        pixel_values: frames, `(B, T, 3, height, width)`.

    Returns:
        `(B, D)`; None if the model does not draft, trains, or has no fitted guide yet.
    """
    guide = model.vision_tower.pruning_guide
    if not model.config.drafts or model.training or not guide.is_fitted:
        return None
    prompt = model.features_to_prompt(model.vision_tower(pixel_values))
    drafts = model.generate(soft_prompt=prompt, prompt_ids=guide.opening, max_new_tokens=DRAFT_TOKENS)
    config = model.config
    words = mean_words(model.language_model.get_input_embeddings(), drafts, {config.end_token_id, config.pad_token_id})
    features: Tensor = guide.of_texts(words)
    return features


def mean_words(words: nn.Module, ids: Tensor, left_out: Collection[int]) -> Tensor:
    """Average the word embeddings of texts, `(B, L)` → `(B, E)`, in float32; zeros for a text without tokens.

    Args:
        words: the language model's word embeddings.
        ids: tokens.
        left_out: those that are no words, such as padding.
    """
    counted = torch.ones_like(ids, dtype=torch.float32)
    for token in left_out:
        counted = counted.masked_fill(ids == token, 0)
    embedded = words(ids).float()  # (B, L, E)
    return (counted.unsqueeze(-1) * embedded).sum(dim=1) / counted.sum(dim=1, keepdim=True).clamp_min(1)

"""Computes how much of a model's attention each frame of a clip gets.

Notation: `B` clips, `T` frames, `N` tokens of a frame, `M` merged tokens, `D` channels.
"""

import numpy as np
import torch
from torch import Tensor

from evlvideo.models.precision import in_float32
from evlvideo.models.tokens.contextualizers import InTowerContextualizer, MergedContextualizer


def attention_weights(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Compute attention weights in float32, `(…, Q, D)` and `(…, K, D)` → `(…, Q, K)`: a softmax over the keys."""
    with in_float32(query.device):
        return torch.softmax(query.float() @ key.float().transpose(-1, -2) * scale, dim=-1)


@torch.no_grad()
def in_tower_attention(contextualizer: InTowerContextualizer, x: Tensor) -> Tensor:
    """Compute how much each frame attends to each, at every token position. The fast path does not return it.

    Args:
        contextualizer: contextualizer of a block of the tower.
        x: its input, `(B, T, N, D)`.

    Returns:
        weights `(B, N, heads, T, T)`; they sum to 1 over the last dimension.
    """
    heads = contextualizer.num_heads
    query, key = (
        part(x).unflatten(-1, (heads, -1)).permute(0, 2, 3, 1, 4)  # (B, N, heads, T, ·)
        for part in (contextualizer.query, contextualizer.key)
    )
    return attention_weights(query, key, contextualizer.scale)


@torch.no_grad()
def merged_attention(contextualizer: MergedContextualizer, x: Tensor) -> Tensor:
    """Compute how much each token of the context attends to each merged token of each frame.

    Args:
        contextualizer: contextualizer over merged tokens.
        x: its input, `(B, T, M, D)`.

    Returns:
        weights `(B, heads, M, T, M)`; they sum to 1 over the last two dimensions.
    """
    heads = contextualizer.num_heads
    query = contextualizer.query(x.mean(dim=1)).unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, heads, M, ·)
    key = contextualizer.key(x.flatten(1, 2)).unflatten(-1, (heads, -1)).transpose(1, 2)  # (B, heads, T·M, ·)
    return attention_weights(query, key, query.shape[-1] ** -0.5).unflatten(-1, x.shape[1:3])


def shares_in_tower(weights: Tensor) -> np.ndarray:
    """Average one clip's weights `(N, heads, T, T)` over tokens and heads: float (T, T), rows that sum to 1."""
    return weights.mean(dim=(0, 1)).cpu().numpy()


def shares_of_merged(weights: Tensor) -> np.ndarray:
    """Sum one clip's weights `(heads, M, T, M)` over the tokens of a frame, and average over heads: float (M, T)."""
    return weights.sum(dim=-1).mean(dim=0).cpu().numpy()

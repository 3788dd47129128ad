import numpy as np
import pytest
import torch

from evlvideo.comparison.page.frame_attention import (
    in_tower_attention,
    merged_attention,
    shares_in_tower,
    shares_of_merged,
)
from evlvideo.models.tokens.contextualizers import InTowerContextualizer, MergedContextualizer


def values(*shape: int) -> torch.Tensor:
    place = torch.arange(1, int(np.prod(shape)) + 1, dtype=torch.float64)
    return torch.sin(0.7391 * place * place).float().reshape(shape)


def opened(module: torch.nn.Module) -> torch.nn.Module:
    """Weights by formula, the gate open."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(values(*weight.shape) if weight.dim() else torch.tensor(0.7))
    return module.eval()


@pytest.mark.parametrize("max_frames", [None, 6])
def test_attention_in_the_tower_is_what_the_contextualizer_uses(max_frames):
    module = opened(InTowerContextualizer(12, attention_dim=8, num_heads=2, max_frames=max_frames))
    x = values(2, 5, 3, 12)  # (B, T, N, D)
    weights = in_tower_attention(module, x)
    assert weights.shape == (2, 3, 2, 5, 5)
    pooled = module.alpha * x + (0 if max_frames is None else module.frame_positions(x))
    by_head = pooled.unflatten(-1, (2, 6))  # (B, T, N, heads, D / heads)
    context = torch.einsum("bnhqt,btnhd->bqnhd", weights, by_head).flatten(3)
    torch.testing.assert_close(context, module(x))


@pytest.mark.parametrize("max_frames", [None, 6])
def test_attention_over_merged_tokens_is_what_the_contextualizer_uses(max_frames):
    module = opened(MergedContextualizer(12, num_heads=3, max_frames=max_frames))
    x = values(2, 4, 5, 12)  # (B, T, M, D)
    weights = merged_attention(module, x)
    assert weights.shape == (2, 3, 5, 4, 5)
    pooled = module.alpha * x + (0 if max_frames is None else module.frame_positions(x))
    by_head = pooled.unflatten(-1, (3, 4))
    context = torch.einsum("bhqtm,btmhd->bqhd", weights, by_head).flatten(2)
    torch.testing.assert_close(x + context[:, None], module(x))


def test_shares_sum_to_one_over_the_frames():
    in_tower = in_tower_attention(opened(InTowerContextualizer(12, attention_dim=8, num_heads=2)), values(1, 5, 3, 12))
    merged = merged_attention(opened(MergedContextualizer(12, num_heads=3)), values(1, 4, 6, 12))
    for shares, shape in (
        (shares_in_tower(in_tower[0]), (5, 5)),
        (shares_of_merged(merged[0]), (6, 4)),
    ):
        assert shares.shape == shape
        assert shares.sum(axis=1) == pytest.approx(np.ones(shape[0]))

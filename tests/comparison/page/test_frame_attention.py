import numpy as np
import pytest
import torch
from tiny_models import chirp, fill, open_gates

from evlvideo.comparison.page.frame_attention import (
    in_tower_attention,
    merged_attention,
    shares_in_tower,
    shares_of_merged,
)
from evlvideo.models.tokens.contextualizers import InTowerContextualizer, MergedContextualizer


@pytest.mark.parametrize("max_frames", [None, 6])
def test_attention_in_the_tower_is_what_the_contextualizer_uses(max_frames):
    module = open_gates(fill(InTowerContextualizer(12, attention_dim=8, num_heads=2, max_frames=max_frames))).eval()
    x = chirp(2, 5, 3, 12)  # (B, T, N, D)
    weights = in_tower_attention(module, x)
    assert weights.shape == (2, 3, 2, 5, 5)
    pooled = module.alpha * x + (0 if max_frames is None else module.frame_positions(x))
    by_head = pooled.unflatten(-1, (2, 6))  # (B, T, N, heads, D / heads)
    context = torch.einsum("bnhqt,btnhd->bqnhd", weights, by_head).flatten(3)
    torch.testing.assert_close(context, module(x))


@pytest.mark.parametrize("max_frames", [None, 6])
def test_attention_over_merged_tokens_is_what_the_contextualizer_uses(max_frames):
    module = open_gates(fill(MergedContextualizer(12, num_heads=3, max_frames=max_frames))).eval()
    x = chirp(2, 4, 5, 12)  # (B, T, M, D)
    weights = merged_attention(module, x)
    assert weights.shape == (2, 3, 5, 4, 5)
    pooled = module.alpha * x + (0 if max_frames is None else module.frame_positions(x))
    by_head = pooled.unflatten(-1, (3, 4))
    context = torch.einsum("bhqtm,btmhd->bqhd", weights, by_head).flatten(2)
    torch.testing.assert_close(x + context[:, None], module(x))


def test_shares_sum_to_one_over_the_frames():
    in_tower = in_tower_attention(
        open_gates(fill(InTowerContextualizer(12, attention_dim=8, num_heads=2))).eval(), chirp(1, 5, 3, 12)
    )
    merged = merged_attention(open_gates(fill(MergedContextualizer(12, num_heads=3))).eval(), chirp(1, 4, 6, 12))
    for shares, shape in (
        (shares_in_tower(in_tower[0]), (5, 5)),
        (shares_of_merged(merged[0]), (6, 4)),
    ):
        assert shares.shape == shape
        assert shares.sum(axis=1) == pytest.approx(np.ones(shape[0]))

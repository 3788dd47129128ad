"""VideoCoCa's attentional pooler, by hand."""

import torch
from tiny_connectors import BERT, NUM_TOKENS, TOWER, VISION_DIM
from tiny_models import chirp, fill, shuffled

from evlvideo.models.connectors.video_coca import VideoCoca, VideoCocaOptions


def connector() -> VideoCoca:
    return fill(VideoCoca(BERT, TOWER, VideoCocaOptions(num_queries=6, num_heads=4))).eval()


@torch.no_grad()
def test_pooler_is_its_formula() -> None:
    module, x = connector(), chirp(1, 2, NUM_TOKENS, VISION_DIM)
    attention = module.attention
    q_bias, k_bias, v_bias = attention.in_proj_bias.chunk(3)
    tokens = x[0].flatten(0, 1)
    query = (module.ln_queries(module.queries[0]) @ attention.q_proj_weight.T + q_bias).unflatten(-1, (4, -1))
    key = (tokens @ attention.k_proj_weight.T + k_bias).unflatten(-1, (4, -1))
    value = (tokens @ attention.v_proj_weight.T + v_bias).unflatten(-1, (4, -1))
    weights = torch.einsum("qhd,khd->hqk", query, key).div(10**0.5).softmax(-1)
    pooled = attention.out_proj(torch.einsum("hqk,khd->qhd", weights, value).flatten(1))
    torch.testing.assert_close(module(x)[0, 0], module.ln_post(pooled), atol=1e-5, rtol=1e-5)


def test_frames_are_a_set() -> None:
    module, x = connector(), chirp(2, 4, NUM_TOKENS, VISION_DIM)
    torch.testing.assert_close(module(shuffled(x)), module(x), atol=1e-5, rtol=1e-5)
    assert module(x).shape == (2, 1, 6, 40)

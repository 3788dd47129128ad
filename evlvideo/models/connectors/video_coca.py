"""VideoCoCa's connector: the attentional pooler of a CoCa, over the tokens of all frames.

Source: VideoCoCa (Yan et al., 2022, arXiv 2212.04979), section 3; the pooler is that of open_clip's CoCa. Notation: see
:class:`~evlvideo.models.connectors.base.Connector`.
"""

import torch
from torch import Tensor, nn

from evlvideo.models.connectors.base import Connector
from evlvideo.models.connectors.options import VideoCocaOptions


class VideoCoca(Connector):
    """256 queries look once at the tokens of all frames: `(B, T, N, D)` → `(B, 1, Q, H)`.

    The norm of what is looked at is the captioner's `ln_vision`. Frames have no positions, as published.

    Args:
        dim: channels `H` that come out; a multiple of the heads.
        vision_dim: channels `D` of the tower.
        options: its own.
    """

    def __init__(self, dim: int, *, vision_dim: int, options: VideoCocaOptions) -> None:
        super().__init__()
        self.output_dim = dim
        self.queries = nn.Parameter(torch.empty(1, options.num_queries, dim).normal_())
        self.ln_queries = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(
            dim, options.num_heads, kdim=vision_dim, vdim=vision_dim, batch_first=True
        )
        self.ln_post = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, N, D)` → `(B, 1, Q, H)`."""
        tokens = x.flatten(1, 2)  # (B, T·N, D)
        queries = self.ln_queries(self.queries).expand(len(x), -1, -1)
        pooled = self.attention(queries, tokens, tokens, need_weights=False)[0]
        return self.ln_post(pooled).unsqueeze(1)

    def num_output_tokens(self, num_tokens: int) -> int:
        """`Q`, of a clip."""
        return self.queries.shape[1]

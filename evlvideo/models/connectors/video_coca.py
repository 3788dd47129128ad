"""VideoCoCa's connector: the attentional pooler of a CoCa, over the tokens of all frames.

Source: VideoCoCa (Yan et al., 2022, arXiv 2212.04979), section 3; the pooler is that of open_clip's CoCa. Notation: see
:mod:`evlvideo.models.connectors.base`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig

from evlvideo.models.connectors.base import Connector, TowerShape, check_heads


@dataclass(frozen=True, slots=True)
class VideoCocaOptions:
    """Options of VideoCoCa's connector."""

    num_queries: int = 256
    """Queries of the pooler, which are the output tokens of a clip."""
    num_heads: int = 8
    """Heads of the pooler; open_clip's number."""


class VideoCoca(Connector):
    """Queries look once at the tokens of all frames: `(B, T, N, D)` → `(B, 1, Q, H)`.

    The norm of these tokens is the captioner's `ln_vision`. Frames have no positions, as published.
    """

    options_class = VideoCocaOptions

    def __init__(self, bert: BertConfig, tower: TowerShape, options: VideoCocaOptions) -> None:
        super().__init__()
        dim = self.output_dim = bert.hidden_size
        self.queries = nn.Parameter(torch.empty(1, options.num_queries, dim).normal_())
        self.ln_queries = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, options.num_heads, kdim=tower.dim, vdim=tower.dim, batch_first=True)
        self.ln_post = nn.LayerNorm(dim)

    @classmethod
    def takes_single_frames(cls, options: VideoCocaOptions) -> bool:
        """No: the queries look at all frames together."""
        return False

    @classmethod
    def problems(cls, bert: BertConfig, options: VideoCocaOptions, settings: Mapping[str, Any]) -> list[str]:
        """List a width that is not a multiple of the heads."""
        return check_heads(options.num_heads, bert.hidden_size, "video_coca")

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, N, D)` → `(B, 1, Q, H)`."""
        tokens = x.flatten(1, 2)  # (B, T·N, D)
        queries = self.ln_queries(self.queries).expand(len(x), -1, -1)
        pooled = self.attention(queries, tokens, tokens, need_weights=False)[0]
        return self.ln_post(pooled).unsqueeze(1)

    def num_output_tokens(self, num_tokens: int) -> int:
        """`Q`, for the clip."""
        return self.queries.shape[1]

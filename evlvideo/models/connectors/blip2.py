"""BLIP-2's connector: a Q-Former for each frame.

Source: BLIP-2 (Li et al., ICML 2023), section 3.1. Notation: see :mod:`evlvideo.models.connectors.base`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import BertConfig

from evlvideo.models.connectors.base import Connector, TowerShape, check_heads
from evlvideo.models.connectors.qformer import load_bert_into_qformer, look, make_qformer, make_queries


@dataclass(frozen=True, slots=True)
class Blip2Options:
    """Options of BLIP-2's connector."""

    num_queries: int = 32
    """Queries, which are the output tokens."""
    cross_attention_every: int = 2
    """Layers from one that looks at the image to the next."""
    all_frames: bool = False
    """Whether the queries look at the tokens of all frames together, as published captioning of MSR-VTT does."""


class Blip2(Connector):
    """Queries look at each frame: `(B, T, N, D)` → `(B, T, Q, H)`; or at all frames together: `(B, 1, Q, H)`."""

    options_class = Blip2Options
    has_dropout = True

    def __init__(self, bert: BertConfig, tower: TowerShape, options: Blip2Options) -> None:
        super().__init__()
        self.output_dim = bert.hidden_size
        self.all_frames = options.all_frames
        self.queries = make_queries(options.num_queries, bert)
        self.qformer = make_qformer(bert, vision_dim=tower.dim, cross_attention_every=options.cross_attention_every)

    @classmethod
    def takes_single_frames(cls, options: Blip2Options) -> bool:
        """Unless the queries look at all frames together."""
        return options.all_frames is not True

    @classmethod
    def problems(cls, bert: BertConfig, options: Blip2Options, settings: Mapping[str, Any]) -> list[str]:
        """List a width that is not a multiple of the heads."""
        return check_heads(bert.num_attention_heads, bert.hidden_size, "blip2")

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, N, D)` → `(B, T, Q, H)`, or `(B, 1, Q, H)`."""
        if self.all_frames:
            x = x.flatten(1, 2).unsqueeze(1)  # (B, 1, T·N, D)
        return look(self.qformer, self.queries, x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def num_output_tokens(self, num_tokens: int) -> int:
        """`Q`, for each frame or for the clip."""
        return self.queries.shape[1]

    def load_bert(self, name: str) -> None:
        """Start the Q-Former from a BERT; queries stay random."""
        load_bert_into_qformer(self.qformer, name)

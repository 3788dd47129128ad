"""BLIP-2's connector: a Q-Former for each frame.

Source: BLIP-2 (Li et al., ICML 2023), section 3.1. Notation: see
:class:`~evlvideo.models.connectors.base.Connector`.
"""

from torch import Tensor
from transformers import BertConfig

from evlvideo.models.connectors.base import Connector
from evlvideo.models.connectors.options import Blip2Options
from evlvideo.models.connectors.qformer import look, make_qformer, make_queries


class Blip2(Connector):
    """32 queries look at a frame: `(B, T, N, D)` → `(B, T, Q, H)`; or at all frames together: `(B, 1, Q, H)`.

    Args:
        bert: sizes and dropout.
        vision_dim: channels `D` of the tower.
        options: its own.
    """

    def __init__(self, bert: BertConfig, *, vision_dim: int, options: Blip2Options) -> None:
        super().__init__()
        self.output_dim = bert.hidden_size
        self.all_frames = options.all_frames
        self.queries = make_queries(options.num_queries, bert)
        self.qformer = make_qformer(bert, vision_dim=vision_dim, cross_attention_every=options.cross_attention_every)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, N, D)` → `(B, T, Q, H)`, or `(B, 1, Q, H)`."""
        if self.all_frames:
            x = x.flatten(1, 2).unsqueeze(1)  # (B, 1, T·N, D)
        return look(self.qformer, self.queries, x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def num_output_tokens(self, num_tokens: int) -> int:
        """`Q`, of each frame or of a clip."""
        return self.queries.shape[1]

"""Video-LLaMA's connector: an image Q-Former for each frame, and a video Q-Former over all of them.

Source: Video-LLaMA (Zhang et al., EMNLP 2023 demonstrations), section 2.1, its published code. Notation: see
:mod:`evlvideo.models.connectors.base`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig

from evlvideo.errors import UserError
from evlvideo.models.connectors.base import Connector, TowerShape, check_heads
from evlvideo.models.connectors.qformer import look, make_qformer, make_queries


@dataclass(frozen=True, slots=True)
class VideoLlamaOptions:
    """Options of Video-LLaMA's vision branch."""

    num_queries: int = 32
    """Queries of the image Q-Former, for each frame."""
    cross_attention_every: int = 2
    """Layers of the image Q-Former from one that looks at the image to the next."""
    video_queries: int = 32
    """Queries of the video Q-Former, which are the output tokens of a clip."""
    video_layers: int = 2
    """Layers of the video Q-Former; each looks at the frames."""
    train_qformer: bool = False
    """Whether the image Q-Former and the norm before it are trained. As published, they stay BLIP-2's."""


class VideoLlama(Connector):
    """A second Q-Former looks at the queries of all frames, with frame positions: `(B, T, N, D)` → `(B, 1, Q, H)`."""

    options_class = VideoLlamaOptions
    settings = ("max_frames",)
    has_dropout = True

    def __init__(self, bert: BertConfig, tower: TowerShape, options: VideoLlamaOptions, *, max_frames: int) -> None:
        super().__init__()
        self.output_dim = bert.hidden_size
        self.image_queries = make_queries(options.num_queries, bert)
        self.image_qformer = make_qformer(
            bert, vision_dim=tower.dim, cross_attention_every=options.cross_attention_every
        )
        # As large as the outputs of the layer norm that they are added to, as published.
        self.frame_positions = nn.Parameter(torch.empty(max_frames, bert.hidden_size).normal_())
        self.video_queries = make_queries(options.video_queries, bert)
        self.video_qformer = make_qformer(
            bert, vision_dim=bert.hidden_size, cross_attention_every=1, num_layers=options.video_layers
        )

    @classmethod
    def takes_single_frames(cls, options: VideoLlamaOptions) -> bool:
        """No: the video Q-Former looks at all frames together."""
        return False

    @classmethod
    def frozen_weights(cls, options: VideoLlamaOptions) -> tuple[str, ...]:
        """BLIP-2's Q-Former, its queries and the norm before it."""
        return () if options.train_qformer else ("ln_vision.", "connector.image_queries", "connector.image_qformer.")

    @classmethod
    def problems(cls, bert: BertConfig, options: VideoLlamaOptions, settings: Mapping[str, Any]) -> list[str]:
        """List a width that is not a multiple of the heads."""
        return check_heads(bert.num_attention_heads, bert.hidden_size, "video_llama")

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, N, D)` → `(B, 1, Q, H)`.

        Raises:
            UserError: the clip has more frames than there are positions.
        """
        num_frames = x.shape[1]
        if num_frames > len(self.frame_positions):
            raise UserError(
                f"The clip has {num_frames} frames and the connector positions for {len(self.frame_positions)}; "
                "use fewer frames, or start a model with a larger max_frames."
            )
        frames = look(self.image_qformer, self.image_queries, x.flatten(0, 1)).unflatten(0, x.shape[:2])
        frames = frames + self.frame_positions[:num_frames, None]  # (B, T, Q of an image, H)
        return look(self.video_qformer, self.video_queries, frames.flatten(1, 2)).unsqueeze(1)

    def num_output_tokens(self, num_tokens: int) -> int:
        """`Q`, for the clip."""
        return self.video_queries.shape[1]

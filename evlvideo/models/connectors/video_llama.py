"""Video-LLaMA's connector: an image Q-Former for each frame, and a video Q-Former over all of them.

Source: Video-LLaMA (Zhang et al., EMNLP 2023 demonstrations), section 2.1, its published code. Notation: see
:class:`~evlvideo.models.connectors.base.Connector`.
"""

import torch
from torch import Tensor, nn
from transformers import BertConfig

from evlvideo.errors import UserError
from evlvideo.models.connectors.base import Connector
from evlvideo.models.connectors.options import VideoLlamaOptions
from evlvideo.models.connectors.qformer import look, make_qformer, make_queries


class VideoLlama(Connector):
    """What queries saw of each frame, with the frame's position, is looked at again: `(B, T, N, D)` → `(B, 1, Q, H)`.

    Args:
        bert: sizes and dropout; those of the video Q-Former too, but for its layers.
        vision_dim: channels `D` of the tower.
        max_frames: frames that have a position.
        options: its own.
    """

    def __init__(self, bert: BertConfig, *, vision_dim: int, max_frames: int, options: VideoLlamaOptions) -> None:
        super().__init__()
        self.output_dim = bert.hidden_size
        self.image_queries = make_queries(options.num_queries, bert)
        self.image_qformer = make_qformer(
            bert, vision_dim=vision_dim, cross_attention_every=options.cross_attention_every
        )
        # Of the size of what they are added to, as published: the outputs of a layer norm.
        self.frame_positions = nn.Parameter(torch.empty(max_frames, bert.hidden_size).normal_())
        self.video_queries = make_queries(options.video_queries, bert)
        self.video_qformer = make_qformer(
            bert, vision_dim=bert.hidden_size, cross_attention_every=1, num_layers=options.video_layers
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, N, D)` → `(B, 1, Q, H)`.

        Raises:
            UserError: more frames than there are positions.
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
        """`Q`, of a clip."""
        return self.video_queries.shape[1]

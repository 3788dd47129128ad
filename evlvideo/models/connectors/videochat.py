"""VideoChat's connector: a video token that looks into the tower's last blocks, and a Q-Former with more queries.

Source: VideoChat (Li et al., 2023, arXiv 2305.06355), its published code; the relation aggregators are those of
UniFormerV2 (Li et al., ICCV 2023). Notation: see :mod:`evlvideo.models.connectors.base`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig
from transformers import initialization as init

from evlvideo.models.connectors.base import BlockReader, Connector, TowerShape, check_heads
from evlvideo.models.connectors.qformer import look, make_qformer, make_queries

EVA_MLP_RATIO = 4.3637


@dataclass(frozen=True, slots=True)
class VideoChatOptions:
    """Options of VideoChat's connector, as published for fine-tuning."""

    num_queries: int = 32
    """Queries that come with the Q-Former."""
    extra_queries: int = 64
    """Queries that are added for videos."""
    cross_attention_every: int = 2
    """Layers of the Q-Former from one that looks at the clip to the next."""
    relation_blocks: int = 8
    """Last blocks of the vision tower that the video token looks at."""
    relation_heads: int = 16
    """Heads with which it looks; as many as the tower has."""
    relation_mlp_ratio: float = EVA_MLP_RATIO
    """Width of its MLPs, in widths of the tower."""
    relation_dropout: float = 0.5
    """Dropout inside its MLPs."""
    train_qformer: bool = False
    """Whether the Q-Former and its own queries are trained. As published, they stay BLIP-2's."""


class RelationAggregator(nn.Module):
    """Lets the video token look at one block's output, all tokens of all frames.

    A depthwise convolution tells patches their place in space and time. Both outputs that are added to the video token
    start at zero.

    Args:
        dim: channels of the tower.
        options: of VideoChat.
        grid: rows and columns of a frame's patches.
    """

    def __init__(self, dim: int, *, options: VideoChatOptions, grid: tuple[int, int]) -> None:
        super().__init__()
        self.grid = grid
        self.positions = nn.Conv3d(dim, dim, kernel_size=3, padding=1, groups=dim)
        self.ln_token, self.ln_frames, self.ln_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, options.relation_heads, batch_first=True)
        inner = round(options.relation_mlp_ratio * dim)
        self.fc1, self.fc2 = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.dropout = nn.Dropout(options.relation_dropout)

    def init_weights(self) -> None:
        """Initialise with outputs of zero."""
        init.xavier_uniform_(self.attention.in_proj_weight)
        init.xavier_uniform_(self.fc1.weight)
        outputs = (self.attention.out_proj, self.fc2)
        for zero in (self.positions.bias, *(weight for output in outputs for weight in output.parameters())):
            init.zeros_(cast("Tensor", zero))

    def forward(self, token: Tensor, frames: Tensor) -> Tensor:
        """The video token `(B, 1, D)` and a block's output `(B, T, N, D)` → the video token."""
        seen = self._with_positions(self.ln_frames(frames)).flatten(1, 2)  # (B, T·N, D)
        token = token + self.attention(self.ln_token(token), seen, seen, need_weights=False)[0]
        return token + self.fc2(self.dropout(F.gelu(self.fc1(self.ln_mlp(token)))))

    def _with_positions(self, frames: Tensor) -> Tensor:
        others = frames.shape[2] - self.grid[0] * self.grid[1]
        patches = frames[:, :, others:].unflatten(2, self.grid).permute(0, 4, 1, 2, 3)  # (B, D, T, rows, columns)
        places = self.positions(patches).permute(0, 2, 3, 4, 1).flatten(2, 3)  # (B, T, patches, D)
        return torch.cat([frames[:, :, :others], frames[:, :, others:] + places], dim=2)


class VideoRelations(BlockReader):
    """Lets the video token look at the outputs of the tower's last blocks, one after the other.

    Args:
        dim: channels of the tower.
        options: of VideoChat.
        grid: rows and columns of a frame's patches.
    """

    def __init__(self, dim: int, *, options: VideoChatOptions, grid: tuple[int, int]) -> None:
        super().__init__()
        self.num_blocks = options.relation_blocks
        self.token = nn.Parameter(torch.zeros(1, 1, dim))
        self.aggregators = nn.ModuleList(
            RelationAggregator(dim, options=options, grid=grid) for _ in range(options.relation_blocks)
        )

    def init_weights(self) -> None:
        """Initialise every aggregator with outputs of zero."""
        for aggregator in self.aggregators:
            cast("RelationAggregator", aggregator).init_weights()

    def forward(self, blocks: Sequence[Tensor]) -> Tensor:
        """Outputs of the last blocks in their order, each `(B, T, N, D)` → the video token `(B, 1, D)`."""
        token = self.token.expand(len(blocks[0]), -1, -1)
        for aggregator, frames in zip(self.aggregators, blocks, strict=True):
            # The tower may be in half precision while what is trained is in float32.
            token = aggregator(token, frames.to(self.token.dtype))
        return token


class VideoChat(Connector):
    """Queries look at the tokens of all frames and at the video token: `(B, T, N + 1, D)` → `(B, 1, Q, H)`."""

    options_class = VideoChatOptions
    has_dropout = True
    reads_blocks = True

    def __init__(self, bert: BertConfig, tower: TowerShape, options: VideoChatOptions) -> None:
        super().__init__()
        self.output_dim = bert.hidden_size
        self.queries = make_queries(options.num_queries, bert)
        self.extra_queries = make_queries(options.extra_queries, bert)
        self.qformer = make_qformer(bert, vision_dim=tower.dim, cross_attention_every=options.cross_attention_every)

    @classmethod
    def takes_single_frames(cls, options: VideoChatOptions) -> bool:
        """No: the queries look at all frames together."""
        return False

    @classmethod
    def frozen_weights(cls, options: VideoChatOptions) -> tuple[str, ...]:
        """BLIP-2's Q-Former and its queries."""
        return () if options.train_qformer else ("connector.queries", "connector.qformer.")

    @classmethod
    def problems(cls, bert: BertConfig, options: VideoChatOptions, settings: Mapping[str, Any]) -> list[str]:
        """List a dropout of 1 or more, and a width that is not a multiple of the heads."""
        dropout = options.relation_dropout
        too_much = [f"connector_options.relation_dropout is {dropout}; it must be below 1"] if dropout >= 1 else []
        return too_much + check_heads(bert.num_attention_heads, bert.hidden_size, "videochat")

    @classmethod
    def make_block_reader(cls, tower: TowerShape, options: VideoChatOptions) -> VideoRelations:
        """Make the relations, which give the video token."""
        return VideoRelations(tower.dim, options=options, grid=tower.grid)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, N + 1, D)` → `(B, 1, Q, H)`; the video token is the last of every frame, the same in all."""
        tokens = torch.cat([x[:, :, :-1].flatten(1, 2), x[:, 0, -1:]], dim=1)  # (B, T·N + 1, D)
        queries = torch.cat([self.queries, self.extra_queries], dim=1)
        return look(self.qformer, queries, tokens).unsqueeze(1)

    def num_output_tokens(self, num_tokens: int) -> int:
        """`Q`, for the clip."""
        return self.queries.shape[1] + self.extra_queries.shape[1]

"""Contextualizers: pool context from all frames of a clip, and add it to every frame through a gate.

Gates start at zero, so that a model with contextualizers starts as exactly the image model. Without frame positions,
both forms are equivariant to the order of frames, and a mean over frames does not change when they are shuffled.
Source: EVLGen (Jian et al., ACL 2024), section on video, for the in-tower form; its poster for that over merged tokens.
Notation: `B` clips, `T` frames, `N` tokens of a frame, `D` channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evlvideo.errors import UserError


class FramePositions(nn.Module):
    """One learned vector for each frame, which scales the pooled values channel by channel, to tell early from late.

    Vectors added to the tokens would be the same in every clip after pooling, and could tell the order only through
    attention, which takes many steps to learn. Like gates, these start at zero and have a gradient from the first step.
    """

    def __init__(self, dim: int, max_frames: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(max_frames, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the tokens of each frame, to be pooled beside the gated ones: `(B, T, N, D)` → `(B, T, N, D)`.

        Raises:
            UserError: more frames than there are positions.
        """
        frames = x.shape[1]
        if frames > len(self.weight):
            raise UserError(
                f"The clip has {frames} frames and the model has positions for {len(self.weight)}; "
                "use fewer frames, or start a model with a larger max_frames."
            )
        return x * self.weight[:frames, None]


class InTowerContextualizer(nn.Module):
    """Attention over frames, at each spatial position separately, with the tokens themselves as values.

    As published, with the published names of weights. The attention is scaled by the width of the keys over all heads.

    Args:
        dim: channels of the tower; a multiple of `num_heads`.
        attention_dim: width of queries and keys over all heads.
        num_heads: heads.
        max_frames: most frames that get positions, see :class:`FramePositions`. If None, as published, none do.
    """

    def __init__(
        self, dim: int, *, attention_dim: int = 256, num_heads: int = 8, max_frames: int | None = None
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise UserError(f"The tower is {dim} wide, not a multiple of the contextualizer's {num_heads} heads.")
        self.num_heads = num_heads
        self.scale = attention_dim**-0.5
        self.query = nn.Linear(dim, attention_dim)
        self.key = nn.Linear(dim, attention_dim)
        self.alpha = nn.Parameter(torch.zeros(()))
        self.frame_positions = FramePositions(dim, max_frames) if max_frames else None

    def forward(self, x: Tensor) -> Tensor:
        """Compute the gated context to add to every token: `(B, T, N, D)` → `(B, T, N, D)`."""
        value = _gated(x, self.alpha, self.frame_positions)
        by_position = (t.transpose(1, 2) for t in (self.query(x), self.key(x), value))  # (B, N, T, ·)
        query, key, value = (self._heads(t) for t in by_position)  # (B·N, heads, T, ·)
        context = F.scaled_dot_product_attention(query, key, value.to(query.dtype), scale=self.scale)
        return context.transpose(1, 2).flatten(2).unflatten(0, (len(x), -1)).transpose(1, 2)  # (B, T, N, D)

    def _heads(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class MergedContextualizer(nn.Module):
    """Attention pooling over the merged tokens of all frames, added to every frame.

    Frames are merged separately, so that the same index need not mean the same content in two frames: the pooling
    attends to all `T·M` tokens. Its queries are the means over frames, one for each index. Its values are the tokens
    themselves, as in the in-tower form.

    Args:
        dim: channels of the merged tokens; a multiple of `num_heads`.
        num_heads: heads.
        max_frames: most frames that get positions, see :class:`FramePositions`. If None, none do.
    """

    def __init__(self, dim: int, *, num_heads: int = 8, max_frames: int | None = None) -> None:
        super().__init__()
        if dim % num_heads:
            raise UserError(f"Merged tokens are {dim} wide, not a multiple of the contextualizer's {num_heads} heads.")
        self.num_heads = num_heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.alpha = nn.Parameter(torch.zeros(()))
        self.frame_positions = FramePositions(dim, max_frames) if max_frames else None

    def forward(self, x: Tensor) -> Tensor:
        """Add the gated context to merged tokens: `(B, T, M, H)` → `(B, T, M, H)`."""
        value = _gated(x, self.alpha, self.frame_positions)
        query = self._heads(self.query(x.mean(dim=1)))  # (B, heads, M, H/heads)
        key = self._heads(self.key(x.flatten(1, 2)))  # (B, heads, T·M, H/heads)
        context = F.scaled_dot_product_attention(query, key, self._heads(value.flatten(1, 2)).to(query.dtype))
        return x + context.transpose(1, 2).flatten(2).unsqueeze(1)  # (B, 1, M, H) to every frame

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def _gated(x: Tensor, alpha: Tensor, positions: FramePositions | None) -> Tensor:
    """Gate the values, which gates the pooled context."""
    return alpha * x if positions is None else alpha * x + positions(x)

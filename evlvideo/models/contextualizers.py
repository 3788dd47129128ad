"""Contextualizers: what the frames of a clip share is pooled and added back to every frame, through a gate.

The gates start at zero, so that a model with contextualizers starts as exactly the image model. Source: EVLGen (Jian et
al., ACL 2024), section on video, for the in-tower form; its poster for the form over merged tokens.
Notation: `B` clips, `T` frames, `N` tokens of a frame, `D` channels. Without frame positions, both forms give frames
that are permuted as their input is, and a mean over frames does not change when they are shuffled.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evlvideo.errors import UserError


class FramePositions(nn.Module):
    """One learned vector a frame, which scales what is pooled of it, channel by channel: early is told from late.

    Vectors that were added to the tokens would be the same in every clip after pooling, and could tell the order
    through the attention only, which takes many steps to learn. These are gates themselves: zero at the start, when
    they change nothing, and with a gradient from the first step on.
    """

    def __init__(self, dim: int, max_frames: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(max_frames, dim))

    def forward(self, x: Tensor) -> Tensor:
        """What is pooled beside the gated tokens `x`: `(B, T, N, D)` → `(B, T, N, D)`.

        Raises:
            UserError: more frames than there are positions.
        """
        frames = x.shape[1]
        if frames > len(self.weight):
            raise UserError(
                f"The clip has {frames} frames and the model positions for {len(self.weight)}; "
                "use fewer frames, or start a model with a larger max_frames."
            )
        return x * self.weight[:frames, None]


class InTowerContextualizer(nn.Module):
    """Attention over the frames at every spatial position on its own, with the tokens themselves as values.

    The published form, and the names of its weights. The scale of the attention uses the whole width of the keys, not
    that of one head.

    Args:
        dim: channels of the tower; a multiple of `num_heads`.
        attention_dim: width of queries and keys over all heads.
        num_heads: heads.
        max_frames: with a number, frames have positions, see :class:`FramePositions`; with `None`, as published, they
            have none.
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
        """The gated context of every token, to be added to it: `(B, T, N, D)` → `(B, T, N, D)`."""
        value = _gated(x, self.alpha, self.frame_positions)
        by_place = (t.transpose(1, 2) for t in (self.query(x), self.key(x), value))  # (B, N, T, ·)
        query, key, value = (self._heads(t) for t in by_place)  # (B·N, heads, T, ·)
        context = F.scaled_dot_product_attention(query, key, value.to(query.dtype), scale=self.scale)
        return context.transpose(1, 2).flatten(2).unflatten(0, (len(x), -1)).transpose(1, 2)  # (B, T, N, D)

    def _heads(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class MergedContextualizer(nn.Module):
    """Attention pooling over the merged tokens of all frames; the pooled context is added back to every frame.

    Each frame was merged on its own, so that the token in one place of a frame need not show what it shows in another
    frame: the pooling looks at all `T·M` tokens. Its queries are the tokens' means over the frames, one a place. Its
    values are the tokens themselves, as in the in-tower form: what is added is of the kind that is there already.

    Args:
        dim: channels of the merged tokens; a multiple of `num_heads`.
        num_heads: heads.
        max_frames: with a number, frames have positions, see :class:`FramePositions`; with `None` they have none.
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
        """Merged tokens `(B, T, M, H)` → the same with the gated context added to every frame."""
        value = _gated(x, self.alpha, self.frame_positions)
        query = self._heads(self.query(x.mean(dim=1)))  # (B, heads, M, H/heads)
        key = self._heads(self.key(x.flatten(1, 2)))  # (B, heads, T·M, H/heads)
        context = F.scaled_dot_product_attention(query, key, self._heads(value.flatten(1, 2)).to(query.dtype))
        return x + context.transpose(1, 2).flatten(2).unsqueeze(1)  # (B, 1, M, H) to every frame

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def _gated(x: Tensor, alpha: Tensor, positions: FramePositions | None) -> Tensor:
    """The values: gating them is gating what is pooled of them."""
    return alpha * x if positions is None else alpha * x + positions(x)

"""Connectors that do next to nothing, to compare with: all that is learned is the language projection after them.

Notation: see :class:`~evlvideo.models.connectors.base.Connector`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from evlvideo.models.connectors.base import Connector
from evlvideo.models.connectors.options import AveragePoolOptions


class EveryToken(Connector):
    """Every token goes to the linear layer of the language projection: `(B, T, N, D)` → the same.

    Args:
        vision_dim: channels `D` of the tower.
    """

    def __init__(self, vision_dim: int) -> None:
        super().__init__()
        self.output_dim = vision_dim

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, N, D)` → the same."""
        return x

    def num_output_tokens(self, num_tokens: int) -> int:
        """`N`, of each frame."""
        return num_tokens


class AveragePool(Connector):
    """Patches are averaged to a smaller square; a class token stays as it is: `(B, T, N, D)` → `(B, T, M, D)`.

    Args:
        vision_dim: channels `D` of the tower.
        grid: rows and columns of a frame's patches.
        options: its own.
    """

    def __init__(self, vision_dim: int, *, grid: tuple[int, int], options: AveragePoolOptions) -> None:
        super().__init__()
        self.output_dim = vision_dim
        self.grid, self.side = grid, options.side

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, N, D)` → `(B, T, M, D)`."""
        others = x.shape[2] - self.grid[0] * self.grid[1]
        patches = x[:, :, others:].flatten(0, 1).transpose(1, 2).unflatten(2, self.grid)  # (B·T, D, rows, columns)
        pooled = F.adaptive_avg_pool2d(patches, self.side).flatten(2).transpose(1, 2)  # (B·T, side², D)
        return torch.cat([x[:, :, :others], pooled.unflatten(0, x.shape[:2])], dim=2)

    def num_output_tokens(self, num_tokens: int) -> int:
        """The square and what is no patch, of each frame."""
        return num_tokens - self.grid[0] * self.grid[1] + self.side**2

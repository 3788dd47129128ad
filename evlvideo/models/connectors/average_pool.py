"""A floor to compare with: the patches of a frame averaged to a smaller square."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BertConfig

from evlvideo.models.connectors.base import Connector, TowerShape


@dataclass(frozen=True, slots=True)
class AveragePoolOptions:
    """Options of the averaging."""

    side: int = 5
    """Tokens along each side of the square."""


class AveragePool(Connector):
    """Average the patches; a class token stays as it is: `(B, T, N, D)` → `(B, T, M, D)`."""

    options_class = AveragePoolOptions
    needs_grid = True

    def __init__(self, bert: BertConfig, tower: TowerShape, options: AveragePoolOptions) -> None:
        super().__init__()
        self.output_dim = tower.dim
        self.grid, self.side = tower.grid, options.side

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, N, D)` → `(B, T, M, D)`."""
        others = x.shape[2] - self.grid[0] * self.grid[1]
        patches = x[:, :, others:].flatten(0, 1).transpose(1, 2).unflatten(2, self.grid)  # (B·T, D, rows, columns)
        pooled = F.adaptive_avg_pool2d(patches, self.side).flatten(2).transpose(1, 2)  # (B·T, side², D)
        return torch.cat([x[:, :, :others], pooled.unflatten(0, x.shape[:2])], dim=2)

    def num_output_tokens(self, num_tokens: int) -> int:
        """The square and the tokens that are no patches, for each frame."""
        return num_tokens - self.grid[0] * self.grid[1] + self.side**2

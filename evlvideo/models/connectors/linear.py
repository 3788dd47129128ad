"""A floor to compare with: every token goes to the language projection."""

from typing import Any

from torch import Tensor
from transformers import BertConfig

from evlvideo.models.connectors.base import Connector, TowerShape


class EveryToken(Connector):
    """The identity: `(B, T, N, D)` → the same."""

    def __init__(self, bert: BertConfig, tower: TowerShape, options: Any) -> None:
        super().__init__()
        self.output_dim = tower.dim

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, N, D)` → the same."""
        return x

    def num_output_tokens(self, num_tokens: int) -> int:
        """`N`, for each frame."""
        return num_tokens

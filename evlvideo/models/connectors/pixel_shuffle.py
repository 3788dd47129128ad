"""SmolVLM's connector: each square of neighboring patches becomes one token, with the channels of all of them.

Source: Idefics3 (Laurençon et al., 2024, arXiv 2408.12637) and SmolVLM (Marafioti et al., 2025, arXiv 2504.05299), and
their code in transformers. They name it after pixel shuffle, though it goes the other way, from space to depth. Their
linear layer is the captioner's `language_projection`. Two things differ: `ln_vision` norms the tokens first, and the
linear layer has a bias, which starts at zero. Notation: see :mod:`evlvideo.models.connectors.base`; `s` is the factor.
"""

import math
from dataclasses import dataclass

from torch import Tensor
from transformers import BertConfig

from evlvideo.errors import UserError
from evlvideo.models.connectors.base import Connector, TowerShape


@dataclass(frozen=True, slots=True)
class PixelShuffleOptions:
    """Options of SmolVLM's connector."""

    scale_factor: int = 2
    """Patches along each side of a square. Idefics3 has 2, SmolVLM 3 (2.2B) or 4 (256M and 500M)."""


class PixelShuffle(Connector):
    """Put squares of `s × s` patches into one token each: `(B, T, N, D)` → `(B, T, patches / s², s²·D)`.

    The class token is dropped.

    Args:
        bert: unused.
        tower: shape of the vision tower.
        options: see :class:`PixelShuffleOptions`.

    Raises:
        UserError: the rows or columns of patches are not a multiple of the factor.
    """

    options_class = PixelShuffleOptions
    needs_grid = True

    def __init__(self, bert: BertConfig, tower: TowerShape, options: PixelShuffleOptions) -> None:
        super().__init__()
        factor = options.scale_factor
        rows, columns = tower.grid
        if rows % factor or columns % factor:
            allowed = [str(side) for side in range(1, min(tower.grid) + 1) if math.gcd(*tower.grid) % side == 0]
            raise UserError(
                f"connector_options.scale_factor is {factor}, but the tower gives {rows} × {columns} patches, which "
                f"cannot be parted into squares of {factor} × {factor}; allowed: {', '.join(allowed)}."
            )
        self.output_dim = factor**2 * tower.dim
        self.num_patches, self.squares, self.factor = tower.num_patches, (rows // factor, columns // factor), factor

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, N, D)` → `(B, T, patches / s², s²·D)`; a token has the channels of its square row by row."""
        rows, columns = self.squares
        patches = x[:, :, -self.num_patches :].unflatten(2, (rows, self.factor, columns, self.factor))
        return patches.transpose(3, 4).flatten(4).flatten(2, 3)  # (B, T, rows · columns, s · s · D)

    def num_output_tokens(self, num_tokens: int) -> int:
        """The squares, for each frame."""
        return math.prod(self.squares)

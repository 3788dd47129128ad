"""LLaVA-1.5's connector: two linear layers with GELU between them, on every patch.

Source: LLaVA-1.5 (Liu et al., CVPR 2024, arXiv 2310.03744), its published code. The second linear layer is the
captioner's `language_projection`. Three things differ: `ln_vision` norms the tokens first, weights start as BERT's do,
and the features are those that the architecture's tower gives. LLaVA-1.5 takes those of the last block but one, without
the final norm; an architecture with one block fewer (`vision_overrides: {depth: 23}` of 24) and
`vision_final_norm: false` does the same. Notation: see :mod:`evlvideo.models.connectors.base`.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertConfig

from evlvideo.models.connectors.base import Connector, TowerShape


@dataclass(frozen=True, slots=True)
class MlpOptions:
    """Options of LLaVA-1.5's connector."""

    hidden_dim: int | None = None
    """Channels between the two layers. If None, the width of the language model, as published."""
    keep_class_token: bool = False
    """Whether the class token, and registers if the tower has them, become soft tokens too."""


class Mlp(Connector):
    """The first of two layers, and GELU: `(B, T, N, D)` → `(B, T, patches, H)`.

    Args:
        bert: unused.
        tower: shape of the vision tower.
        options: see :class:`MlpOptions`.
        language_width: width of the language model.
    """

    options_class = MlpOptions
    needs_grid = True
    settings = ("language_width",)

    def __init__(self, bert: BertConfig, tower: TowerShape, options: MlpOptions, *, language_width: int) -> None:
        super().__init__()
        self.output_dim = options.hidden_dim or language_width
        # Named as other linear layers from the tower are, so that both layers have the learning rate of projections.
        self.projection = nn.Linear(tower.dim, self.output_dim)
        self.dropped_tokens = 0 if options.keep_class_token else tower.num_tokens - tower.num_patches

    def forward(self, x: Tensor) -> Tensor:
        """`(B, T, N, D)` → `(B, T, patches, H)`."""
        return F.gelu(self.projection(x[:, :, self.dropped_tokens :]))

    def num_output_tokens(self, num_tokens: int) -> int:
        """The patches, and the class token if it is kept, for each frame."""
        return num_tokens - self.dropped_tokens

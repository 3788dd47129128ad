"""What guides pruning in a captioner's tower, where there is no text: made of the class token, or of a fitted text.

A captioner has no encoder of texts in the width of its tower. The feature of a text is the mean of its word embeddings
in the captioner's own language model, and a linear map takes it to the class token that the tower gives for clips with
such captions. Maps are fitted in closed form; see :mod:`evlvideo.assembly.fitted_guide`. Notation: `B` images, `C`
channels of the tower, `J` prunes, `E` width of the language model.
"""

import torch
from torch import Tensor, nn

from evlvideo.models.precision import in_float32


class PruningGuide(nn.Module):
    """A fitted guide. Its values are buffers, which no optimizer sees and checkpoints hold.

    Until it is fitted, the class token guides alone.

    Args:
        kind: `prompt`, one text for all images; `predicted`, a text predicted from the class token before each prune;
            or `draft`, the text that the captioner drafts for a clip.
        width: `C`.
        prunes: `J`.
        text_width: `E`.
    """

    fitted: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, kind: str, *, width: int, prunes: int, text_width: int) -> None:
        super().__init__()
        shapes: dict[str, dict[str, tuple[int, ...]]] = {
            "prompt": {"bias": (width,)},
            "predicted": {"weight": (prunes, width, width), "bias": (prunes, width)},
            "draft": {"weight": (width, text_width), "bias": (width,)},
        }
        self.kind = kind
        for name, shape in shapes[kind].items():
            self.register_buffer(name, torch.zeros(shape))
        # No bool, which gloo does not send to other processes.
        self.register_buffer("fitted", torch.zeros((), dtype=torch.uint8))
        self.opening: Tensor | None = None
        """Tokens that every draft continues, as captions do."""
        self._was_fitted = False

    @property
    def is_fitted(self) -> bool:
        """Whether the guide was fitted to clips; without values, as if it was."""
        if self.fitted.is_meta:
            return True
        # Looked at only until it was: a look waits for the device.
        self._was_fitted = self._was_fitted or bool(self.fitted.item())
        return self._was_fitted

    @torch.no_grad()
    def fit(self, weight: Tensor | None, bias: Tensor) -> None:
        """Take fitted values, of the shapes of the buffers."""
        if weight is not None:
            self.weight.copy_(weight)
        self.bias.copy_(bias)
        self.fitted.fill_(1)

    def forward(self, prune: int, class_token: Tensor) -> Tensor:
        """Make the text that guides a prune of the class tokens before it, `(B, C)` → `(B, C)`, in float32."""
        if self.kind == "prompt":
            return self.bias.expand(len(class_token), -1)
        with in_float32(class_token.device):
            return nn.functional.linear(class_token.float(), self.weight[prune], self.bias[prune])

    def of_texts(self, texts: Tensor) -> Tensor:
        """Take the features of texts to the tower, `(B, E)` → `(B, C)`, in float32."""
        with in_float32(texts.device):
            return nn.functional.linear(texts.float(), self.weight, self.bias)

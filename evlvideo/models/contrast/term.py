"""The contrastive term of pre-training: an image against all captions of a batch, and a caption against all images.

Source: EVLGen (Jian et al., ACL 2024), its published code, where its weight `beta` is 0 in every recipe. Notation: `B`
clips of this process, `W` processes, `P` connector tokens of a clip, `H` channels of the connector, `D` channels of the
encoder of captions, `C` channels in which they are compared.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import CausalLMOutput

from evlvideo.models.choices import GRADIENTS
from evlvideo.models.contrast.gather import gathered, own_rows
from evlvideo.models.precision import in_float32

LABEL_SMOOTHING = 0.1
START_TEMPERATURE = 0.07
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.001, 0.5


@dataclass
class CaptionOutput(CausalLMOutput):
    """What a captioner's teacher-forced pass returns."""

    contrastive_loss: Tensor | None = None
    """The contrastive term, without its weight; `loss` is the cross-entropy alone."""


class ContrastiveTerm(nn.Module):
    """Compares images and captions: connector tokens `(B, P, H)` and encoded captions `(B, D)` → a scalar.

    An image is the class token of its connector tokens, several frames the mean of theirs.

    Args:
        image_dim: `H`.
        text_dim: `D`.
        width: `C`.
        frame_tokens: connector tokens of a frame, of which the first is the class token.
        gradient: one of :data:`evlvideo.models.choices.GRADIENTS`; see :func:`contrastive_loss`.
    """

    def __init__(
        self, image_dim: int, text_dim: int, width: int, *, frame_tokens: int, gradient: str = GRADIENTS[0]
    ) -> None:
        super().__init__()
        self.vision_proj = nn.Linear(image_dim, width)
        self.text_proj = nn.Linear(text_dim, width)
        self.temp = nn.Parameter(torch.tensor(START_TEMPERATURE))
        self.frame_tokens = frame_tokens
        self.gradient = gradient

    def forward(self, tokens: Tensor, sentences: Tensor) -> Tensor:
        """Compute the term in float32. First puts the temperature back into its bounds, as published."""
        with torch.no_grad():
            self.temp.clamp_(LEAST_TEMPERATURE, MOST_TEMPERATURE)
        with in_float32(tokens.device):
            class_tokens = tokens[:, :: self.frame_tokens].float().mean(dim=1)  # (B, H)
            images = F.normalize(self.vision_proj(class_tokens), dim=-1)
            texts = F.normalize(self.text_proj(sentences.float()), dim=-1)
            return contrastive_loss(images, texts, self.temp, gradient=self.gradient)


def contrastive_loss(images: Tensor, texts: Tensor, temperature: Tensor, *, gradient: str = GRADIENTS[0]) -> Tensor:
    """Average the cross-entropies of both directions, with label smoothing, over the pairs of this process.

    All processes must call this with as many pairs. The mean over processes is the loss of the whole batch.

    Args:
        images: unit vectors, `(B, C)`.
        texts: those of their captions, `(B, C)`.
        temperature: scalar, or one value.
        gradient: `published` treats what is compared against, `(W·B, C)`, as constant, even a process's own rows;
            `full` gives the gradient of the loss of the whole batch, once gradients are averaged over processes.

    Returns:
        a scalar, the same for both.
    """
    all_images, all_texts = (gathered(x, constant=gradient == "published") for x in (images, texts))
    targets = own_rows(len(images), images.device)
    directions = (images @ all_texts.T, texts @ all_images.T)  # (B, W·B) each
    losses = [F.cross_entropy(x / temperature, targets, label_smoothing=LABEL_SMOOTHING) for x in directions]
    return torch.stack(losses).mean()

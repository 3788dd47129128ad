"""CLIP: contrast alone, over the pairs of all processes.

Source: CLIP (Radford et al., 2021), transformers' model, and ELIP (Guo et al., 2023), whose guide is the normed text
feature, taken back through the tower's projection.
"""

import math

import torch
from torch import Tensor, nn
from transformers import CLIPModel

from evlvideo.models.vlp.hosts.clip import clip_text_features, clip_tokens
from evlvideo.models.vlp.hosts.matching import clip_features
from evlvideo.models.vlp.images import Guidance
from evlvideo.models.vlp.losses import paired_contrast

MOST_LOGIT_SCALE = math.log(100)
"""Bound of the logarithm of the similarities' scale before every step, as published."""


class ClipPretraining(nn.Module):
    """Trains CLIP.

    Call :meth:`before_step` before every optimizer step.

    Args:
        host: the model.
        guidance: how its images are pruned. If None, they are not.
    """

    def __init__(self, host: CLIPModel, guidance: Guidance | None) -> None:
        super().__init__()
        self.host = host
        self.guidance = guidance

    @torch.no_grad()
    def before_step(self) -> None:
        """Put the scale of the similarities back into its bounds."""
        self.host.logit_scale.clamp_(0, MOST_LOGIT_SCALE)

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        *,
        alpha: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """Compute the loss.

        Args:
            pixel_values: `(B, T, 3, height, width)`.
            input_ids: `(B, S)`, with the EOS token.
            attention_mask: `(B, S)`.
            alpha: not used; CLIP has no teacher.
            generator: draws the scores of the control `random`.

        Returns:
            `loss`, and `contrast`, the same.
        """
        texts = clip_text_features(self.host, input_ids, attention_mask)
        tokens = clip_tokens(self.host, pixel_values, self.guidance, texts, generator)
        images = clip_features(self.host.visual_projection, tokens)
        loss = paired_contrast(images, texts, self.host.logit_scale.exp())
        return {"loss": loss, "contrast": loss}

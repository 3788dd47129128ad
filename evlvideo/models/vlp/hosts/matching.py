"""What BLIP and ALBEF have in common: a ViT, text layers that may read the image, and heads for contrast and matching.

Built from transformers' layers. Notation: `B` pairs, `T` frames, `S` tokens of a text, `N` tokens that a text reads,
`D` channels of the tower, `H` of the text layers, `C` of contrast.
"""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BlipConfig, BlipPreTrainedModel, BlipTextModel, BlipVisionModel

from evlvideo.models.blocks.prunable_towers import BlipTower
from evlvideo.models.precision import in_float32
from evlvideo.models.vlp.images import Guidance, encode_clips


class MatchingHost(BlipPreTrainedModel):
    """A ViT, a text encoder, and heads for contrast and matching, named as in `BlipForImageTextRetrieval`.

    Args:
        config: of the model.
    """

    negative_floor: float
    """Added to the weights of hard negatives."""
    fuses_states: bool
    """Whether texts that read images go on from their states alone, or are read anew."""
    untaught: tuple[str, ...]
    """Parts that the momentum teacher does not have."""

    def __init__(self, config: BlipConfig) -> None:
        super().__init__(config)
        vision: Any = config.vision_config
        text: Any = config.text_config
        self.vision_model = BlipVisionModel(vision)
        self.text_encoder = BlipTextModel(text, add_pooling_layer=False)
        self.vision_proj = nn.Linear(vision.hidden_size, config.image_text_hidden_size)
        self.text_proj = nn.Linear(text.hidden_size, config.image_text_hidden_size)
        self.itm_head = nn.Linear(text.hidden_size, 2)

    @abstractmethod
    def text_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encode texts alone, `(B, S)` → `(B, S, H)`. The class feature is the first."""

    @abstractmethod
    def fused_states(self, input_ids: Tensor, attention_mask: Tensor, states: Tensor | None, tokens: Tensor) -> Tensor:
        """Let texts read images.

        Args:
            input_ids: `(B, S)`.
            attention_mask: `(B, S)`.
            states: of :meth:`text_states`, `(B, S, H)`. None if the host does not fuse them.
            tokens: of the images, `(B, N, D)`.

        Returns:
            `(B, S, H)`.
        """

    @abstractmethod
    def language(self, input_ids: Tensor, attention_mask: Tensor, tokens: Tensor) -> Tensor:
        """Predict words from images.

        Args:
            input_ids: whole texts for BLIP, which predicts each token from those before it; masked ones for ALBEF.
            attention_mask: `(B, S)`.
            tokens: of the images, `(B, N, D)`.

        Returns:
            logits, `(B, S, V)`.
        """

    def image_tokens(
        self,
        clips: Tensor,
        guidance: Guidance | None = None,
        texts: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Encode clips; see :func:`evlvideo.models.vlp.images.encode_clips`."""
        return encode_clips(BlipTower(self.vision_model), clips, guidance, texts, generator)

    def image_features(self, tokens: Tensor) -> Tensor:
        """Project clips for contrast, `(B, T, N, D)` → unit vectors `(B, C)`."""
        return clip_features(self.vision_proj, tokens)

    def text_features(self, states: Tensor) -> Tensor:
        """Project texts for contrast, `(B, S, H)` → unit vectors `(B, C)`."""
        return unit(self.text_proj(states[:, 0]))

    def matching_logits(self, fused: Tensor) -> Tensor:
        """Tell whether pairs match, `(B, S, H)` → `(B, 2)`."""
        logits: Tensor = self.itm_head(fused[:, 0])
        return logits


def unit(x: Tensor) -> Tensor:
    """Scale to unit vectors in float32."""
    with in_float32(x.device):
        return F.normalize(x.float(), dim=-1)


def clip_features(projection: nn.Module, tokens: Tensor) -> Tensor:
    """Project the class tokens of clips, and average those of several frames: `(B, T, N, D)` → unit `(B, C)`."""
    frames = unit(projection(tokens[:, :, 0]))
    return frames[:, 0] if frames.shape[1] == 1 else unit(frames.mean(dim=1))


def first_replaced(input_ids: Tensor, token: int) -> Tensor:
    """Replace the first token of every text."""
    return torch.cat([torch.full_like(input_ids[:, :1], token), input_ids[:, 1:]], dim=1)

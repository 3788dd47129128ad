"""ALBEF with a head that says whether a statement about one image, or two, is true.

Source: ALBEF (Li et al., 2021), sections 5 and A. Notation: `B` statements, `I` images of a statement, `S` tokens of a
text, `H` channels of the text layers.
"""

import copy
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BlipConfig

from evlvideo.models.vlp.hosts.albef import Albef
from evlvideo.models.vlp.images import Guidance

_UNUSED = ("vision_proj", "text_proj", "itm_head", "cls")
"""Heads of pre-training."""
_LAYER = re.compile(r"(text_encoder\.encoder\.layer\.)(\d+)(\..+)")


class AlbefClassifier(Albef):
    """An ALBEF with a two-layer head on the first token's state, and without the heads of pre-training.

    With two images, every layer that reads the image is there twice, one for each image, in turn; both have the same
    keys and values of cross-attention, as published.

    Args:
        config: as an ALBEF's, with the number of `images` and of `classes`; its text layers count twice as described.
    """

    untaught: tuple[str, ...] = ()
    _tied_weights_keys = {}  # noqa: RUF012  (transformers')

    def __init__(self, config: BlipConfig) -> None:
        super().__init__(config)
        for name in _UNUSED:
            delattr(self, name)
        known: Any = config
        if known.images == 2:
            _share_keys_and_values(self.text_encoder.encoder.layer[self.fusion_layer :])
        width = known.text_config.hidden_size
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, known.classes))

    def classify(
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        guidance: Guidance | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Classify statements.

        Args:
            pixel_values: `(B, I, 3, height, width)`.
            input_ids: `(B, S)`.
            attention_mask: `(B, S)`.
            guidance: how the images are pruned, by the statement if its guide is `text`. If None, they are not.
            generator: draws the scores of the control `random`.

        Returns:
            logits, `(B, classes)`.
        """
        states = self.text_states(input_ids, attention_mask)
        tokens = self.image_tokens(pixel_values, guidance, states[:, 0], generator)  # (B, I, N, D)
        fused = self.fused_over(attention_mask, states, tokens.unbind(dim=1))
        logits: Tensor = self.head(fused[:, 0])
        return logits


def classifier_of(host: Albef, images: int, classes: int) -> AlbefClassifier:
    """Make a classifier of a pre-trained ALBEF; its head starts from random weights.

    Args:
        host: the ALBEF.
        images: of a statement, 1 or 2.
        classes: number of classes.
    """
    config: Any = copy.deepcopy(host.config)
    first = host.fusion_layer
    config.images, config.classes = images, classes
    config.text_config.num_hidden_layers = first + images * (config.text_config.num_hidden_layers - first)
    model = AlbefClassifier(config)
    weights = {
        new: value
        for name, value in host.state_dict().items()
        if name.partition(".")[0] not in _UNUSED
        for new in _names(name, first, images)
    }
    found = model.load_state_dict(weights, strict=False)
    assert not found.unexpected_keys
    assert all(name.startswith("head.") for name in found.missing_keys)
    return model


def _names(name: str, first: int, images: int) -> Iterator[str]:
    """Name a weight in the classifier: for each image if its layer reads images."""
    match = _LAYER.fullmatch(name)
    if match is None or int(match[2]) < first:
        yield name
        return
    for image in range(images):
        yield f"{match[1]}{first + images * (int(match[2]) - first) + image}{match[3]}"


def _share_keys_and_values(layers: Any) -> None:
    """Give each second layer the keys and values of the layer before it."""
    for one, other in zip(layers[::2], layers[1::2], strict=True):
        for part in ("key", "value"):
            setattr(other.crossattention.self, part, getattr(one.crossattention.self, part))

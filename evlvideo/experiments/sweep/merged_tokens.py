"""Count the tokens that a connector merges in each layer, from its architecture alone."""

from dataclasses import dataclass

import torch

from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.connectors.tomeformer import make_schedule
from evlvideo.models.tokens.merging import mergeable_tokens, merged_by_layer
from evlvideo.models.vision import VisionTower


@dataclass(frozen=True, slots=True)
class Merging:
    """Tokens merged in each layer of a connector."""

    tokens: int
    """Tokens of a frame before the first layer."""
    most_in_first: int
    """Upper bound for the first layer."""
    asked: tuple[int, ...]
    """For each layer, as `merge_r` or `merge_to` asks."""
    done: tuple[int, ...]
    """For each layer, capped at half of its tokens, the class token not counted."""


def merging_of(architecture: EvlVideoConfig) -> Merging:
    """Count the merged tokens of a frame.

    Raises:
        UserError: timm does not have the vision tower, or `merge_r` or `merge_to` does not fit the connector's layers.
    """
    with torch.device("meta"):
        tower = VisionTower(
            architecture.vision_tower,
            overrides=architecture.vision_overrides,
            final_norm=architecture.vision_final_norm,
        )
    shape, asked = tower.shape, list[int]()
    if architecture.connector_class.merges_tokens:
        asked = make_schedule(architecture.bert, shape, merge_r=architecture.merge_r, merge_to=architecture.merge_to)
    done = merged_by_layer(shape.num_tokens, asked, shape.class_token)
    return Merging(shape.num_tokens, mergeable_tokens(shape.num_tokens, shape.class_token), tuple(asked), tuple(done))

"""How many tokens a connector merges in each layer, by its architecture alone."""

from dataclasses import dataclass

import torch

from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.tokens.merging import merge_schedule, mergeable_tokens
from evlvideo.models.vision import VisionTower


@dataclass(frozen=True, slots=True)
class Merging:
    """Tokens merged in each layer of a connector."""

    tokens: int
    """Of a frame, before the first layer."""
    most_in_first: int
    """Most that the first layer can merge."""
    asked: tuple[int, ...]
    """As `merge_r` says."""
    done: tuple[int, ...]
    """With each layer's cap: half of the tokens that are left and are no class token."""


def merging_of(architecture: EvlVideoConfig) -> Merging:
    """Count the merged tokens of a frame.

    Raises:
        UserError: timm has no such vision tower, or `merge_r` does not fit the connector's layers.
    """
    with torch.device("meta"):
        tower = VisionTower(
            architecture.vision_tower,
            overrides=architecture.vision_overrides,
            final_norm=architecture.vision_final_norm,
        )
    # A connector beside the TomeFormer has no r, and merges nothing.
    r = architecture.merge_r
    asked = [] if r is None else merge_schedule(r, architecture.bert.num_hidden_layers)
    left, done = tower.num_tokens, []
    for r in asked:
        done.append(min(r, mergeable_tokens(left, tower.has_class_token)))
        left -= done[-1]
    most = mergeable_tokens(tower.num_tokens, tower.has_class_token)
    return Merging(tower.num_tokens, most, tuple(asked), tuple(done))

"""A checkpoint that is opened as another architecture: which weights are new, and which have no place."""

import torch
from transformers import PreTrainedModel

from evlvideo.models.configuration import EvlVideoConfig

_OF_CONNECTOR = (
    "connector.",
    "contextualizer.",
    "language_projection.",
    "vision_projection.",
    "vision_tower.video_relations.",
)
"""Beginnings of names of weights that another connector has no use for, or has of another shape."""


def changed_weights(
    model: type[PreTrainedModel], saved: EvlVideoConfig, config: EvlVideoConfig
) -> tuple[set[str], set[str]]:
    """Names of the weights that are new by a changed configuration, and of those that have no place in it.

    Only another connector leaves weights out, those of the old one; any other that has no place is an error later.
    """
    before, after = _weight_shapes(model, saved), _weight_shapes(model, config)
    if saved.connector == config.connector:
        return after.keys() - before.keys(), set()
    kept = {
        name
        for name in before.keys() & after.keys()
        if before[name] == after[name] and not name.startswith("connector.")
    }
    return after.keys() - kept, {name for name in before.keys() - kept if name.startswith(_OF_CONNECTOR)}


def _weight_shapes(model: type[PreTrainedModel], config: EvlVideoConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: value.shape for name, value in model(config).state_dict().items()}

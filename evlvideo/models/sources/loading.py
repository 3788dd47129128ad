"""Load a vision tower's weights from timm, a folder as timm saves models, or a file."""

from pathlib import Path
from typing import Any

import timm
from torch import Tensor

from evlvideo.errors import UserError
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.sources.facts import FOLDER_PREFIX, TIMM, folder_of
from evlvideo.models.trainable import is_trained_inside
from evlvideo.models.weights import copy_weights, read_weights

_AFTER_LAST_BLOCK = ("norm.", "fc_norm.", "head.")
"""Weights that a vision tower's file may hold, and that a tower without final norm does not use."""
_HEAD = "head."


def load_vision_weights(vit: Any, config: EvlVideoConfig, source: str) -> None:
    """Load the weights of timm's ViT in place.

    Args:
        vit: the model.
        config: the architecture.
        source: its `vision_weights`, resolved.

    Raises:
        UserError: the weights are not there, or do not fit.
    """
    folder = folder_of(source)
    if source == TIMM:
        state = _timm_weights(config.vision_tower, config.vision_overrides or {})
    elif folder is not None:
        state = _folder_weights(folder, config.vision_overrides or {})
    else:
        state = read_weights(Path(source))
    own = {name: value for name, value in vit.state_dict().items() if not is_trained_inside(name)}
    if not config.vision_final_norm:
        state = {name: value for name, value in state.items() if not name.startswith(_AFTER_LAST_BLOCK)}
    copy_weights(f"The vision tower's weights {config.vision_weights!r}", own, _first_blocks(state, len(vit.blocks)))


def _timm_weights(name: str, overrides: dict[str, Any]) -> dict[str, Tensor]:
    """Pretrained weights of a tower of timm's own depth.

    timm itself loads another depth strictly or not at all strictly, depending on the number of classes.
    """
    try:
        state = timm.create_model(name, pretrained=True, **{"num_classes": 0, **_without_depth(overrides)}).state_dict()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"timm gives no weights for the vision tower {name!r} with {overrides}: {error}") from error
    return state


def _folder_weights(folder: Path, overrides: dict[str, Any]) -> dict[str, Tensor]:
    """Weights of a folder, without its head; timm converts those of some other libraries."""
    try:
        # With the folder's own number of classes, timm loads all weights or none.
        model = timm.create_model(f"{FOLDER_PREFIX}{folder}", pretrained=True, **_without_depth(overrides))
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"timm cannot load the vision tower of the folder {folder} with {overrides}: {error}"
        ) from error
    return {name: value for name, value in model.state_dict().items() if not name.startswith(_HEAD)}


def _without_depth(overrides: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in overrides.items() if name != "depth"}


def _first_blocks(state: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Keep the first blocks of deeper weights for a tower with a smaller depth, such as EVLGen's."""
    beyond = tuple(f"blocks.{number}." for number in range(depth, len(state)))
    return {name: value for name, value in state.items() if not name.startswith(beyond)}

"""Looks at a new connector before it is trained, and fits its soft tokens to the language model's words.

Both are measured on pictures of smooth noise, so that they need no clips, and every process of a run finds the same.
With CLIP ViT-B/16, the soft tokens of such pictures and those of real clips differ in norm by up to 6 %, whether a
connector is random or starts from MiniLM.
"""

import logging
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.tokens.prompt_statistics import mean_norm, prompt_spread

logger = logging.getLogger(__name__)

_PICTURES = 8
_SPOTS = 8
"""Random colors along each side of a picture."""
_ALIKE = 0.1
"""A connector that keeps less than this share of its input's spread starts with tokens that are nearly alike."""


@torch.no_grad()
def scale_to_words(model: EvlVideoForCaptioning) -> None:
    """Scale the language projection so that soft tokens have the mean norm of the language model's word embeddings.

    Args:
        model: a captioner in eval mode, with its language model.
    """
    words: Any = model.language_model.get_input_embeddings()
    # Gemma's words are scaled when they are looked up.
    wanted = mean_norm(words.weight) * float(getattr(words, "embed_scale", 1.0))
    found = mean_norm(model.language_projection(model.connector(_normed_features(model))))
    for weight in model.language_projection.parameters():
        weight.mul_(wanted / found)
    logger.info("soft tokens start with a norm of %.3g, that of words; it was %.3g", wanted, found)


@torch.no_grad()
def warn_if_alike(model: EvlVideoForCaptioning, bert: str) -> None:
    """Log how much of the spread of its input a connector keeps, and warn if that is next to nothing.

    Args:
        model: a captioner in eval mode, before it is trained.
        bert: what its connector starts from, for the message.
    """
    tokens = _normed_features(model)
    before, after = (prompt_spread(x.flatten(1, 2)) for x in (tokens, model.connector(tokens)))
    between, within = (
        getattr(after, name) / after.norm / (getattr(before, name) / before.norm) for name in ("between", "within")
    )
    kept = f"{between:.0%} of its input's spread between clips and {within:.0%} of that within a clip"
    logger.info("the connector, from %s, starts with %s", bert, kept)
    if min(between, within) < _ALIKE:
        logger.warning(
            "The connector that starts from %s makes tokens nearly alike: it keeps %s. Start it from random weights "
            "(connector_init: null) or from another BERT.",
            bert,
            kept,
        )


def _normed_features(model: EvlVideoForCaptioning) -> Tensor:
    """Encode pictures of smooth noise, `(_PICTURES, 1, N, D)`, without the global random state."""
    colors = torch.randn(_PICTURES, 3, _SPOTS, _SPOTS, generator=torch.Generator().manual_seed(0))
    pictures = F.interpolate(colors, model.vision_tower.image_size, mode="bilinear")
    features = model.vision_tower(pictures.unsqueeze(1).to(model.vision_tower.device))
    return model.ln_vision(features).to(model.language_projection.weight.dtype)

"""Looks at a new connector before it is trained, and fits its soft tokens to the language model's words.

Both need no clips: what stands for them has the statistics of a tower's features. So they cost a moment, and every
process of a run finds the same.
"""

import logging
from typing import Any

import torch
from torch import Tensor

from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.tokens.prompt_statistics import mean_norm, prompt_spread

logger = logging.getLogger(__name__)

_FRAMES = 8
_OF_ALL, _OF_FRAME = 0.5, 0.1
"""Shares of a token's variance that all tokens have in common, and that those of a frame have in common beyond. CLIP
ViT-B/16 gives tokens of two frames a cosine of 0.50 and those of one frame 0.60, after the norm of `ln_vision`."""
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
    found = mean_norm(model.language_projection(model.connector(_stand_in(model))))
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
    tokens = _stand_in(model)
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


def _stand_in(model: EvlVideoForCaptioning) -> Tensor:
    """Make what stands for the normed features of frames, `(_FRAMES, 1, N, D)`, without the global random state."""
    tower, weight = model.vision_tower, model.ln_vision.weight
    tokens = tower.num_tokens + int(tower.video_relations is not None)
    generator = torch.Generator().manual_seed(0)
    shapes = {(1, 1, 1): _OF_ALL, (_FRAMES, 1, 1): _OF_FRAME, (_FRAMES, 1, tokens): 1 - _OF_ALL - _OF_FRAME}
    parts = [
        share**0.5 * torch.randn(*shape, tower.dim, generator=generator).to(weight) for shape, share in shapes.items()
    ]
    return model.ln_vision(parts[0] + parts[1] + parts[2])

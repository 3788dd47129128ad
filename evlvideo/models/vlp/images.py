"""Encodes images, and clips of several frames, with or without pruning, and says what guides it.

Notation: `B` clips of `T` frames, `N` tokens of a frame, `D` channels of the tower.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from torch import Tensor

from evlvideo.errors import UserError
from evlvideo.models.blocks.pruned_encoding import (
    PrunableTower,
    Pruning,
    encode,
    encode_pruned,
    random_scores,
)
from evlvideo.models.blocks.pruning_options import read_options, read_pruning
from evlvideo.models.tokens.pruning import VISION_SHARE

Guide = Literal["text", "class", "shuffled", "random"]
_GUIDES: tuple[str, ...] = get_args(Guide)


@dataclass(frozen=True, slots=True)
class Guidance:
    """How images are pruned, and what guides it."""

    pruning: Pruning
    guide: Guide = "text"
    """`text`: the class feature of the image's own text. `class`: the class token alone. Two are controls: `shuffled`,
    another text of the batch, and `random`, which keeps tokens by chance."""

    def without_text(self) -> "Guidance":
        """Return the same pruning guided by the class token alone."""
        return replace(self, guide="class")

    def encode(
        self, tower: PrunableTower, images: Tensor, texts: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """Run a tower: `(B·T, 3, height, width)` → `(B·T, tokens left, D)`.

        Args:
            tower: the tower.
            images: frames of a clip next to each other.
            texts: class features of the clips' texts in the tower's width, `(B, D)`. None where none may guide.
            generator: draws the scores of the control `random`.

        Raises:
            UserError: a text must guide, and there is none; or the schedule does not fit.
        """
        pruning = self.pruning
        if self.guide == "random":
            assert generator is not None
            return encode_pruned(tower, images, None, replace(pruning, change_scores=random_scores(generator))).tokens
        if self.guide == "class":
            return encode_pruned(tower, images, None, pruning).tokens
        if texts is None:
            raise UserError("These images have no texts to guide pruning; let the class token guide, or prune nothing.")
        guides = texts.roll(1, dims=0) if self.guide == "shuffled" else texts
        return encode_pruned(tower, images, guides.repeat_interleave(len(images) // len(guides), dim=0), pruning).tokens


def read_guidance(given: Mapping[str, Any] | None) -> Guidance | None:
    """Make what a config's `model.pruning` asks for; None if it asks for nothing.

    Raises:
        UserError: keys are unknown, contradict each other, or have values that are not allowed.
    """
    if not given:
        return None
    options = {"look_ahead": "exact", **given}
    guide, share, fold = (
        options.pop("guide", "text"),
        options.pop("vision_share", VISION_SHARE),
        options.pop("fold", True),
    )
    if guide not in _GUIDES:
        raise UserError(f"model.pruning.guide is {guide!r}; allowed: {', '.join(_GUIDES)}.")
    if not isinstance(share, int | float) or isinstance(share, bool) or not isinstance(fold, bool):
        raise UserError(
            f"model.pruning.vision_share is {share!r} and model.pruning.fold {fold!r}; the first must be a number, the "
            "second true or false."
        )
    return Guidance(replace(read_pruning(read_options(options)), vision_share=share, fold=fold), guide)


def encode_clips(
    tower: PrunableTower,
    clips: Tensor,
    guidance: Guidance | None = None,
    texts: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Run a tower on the frames of clips.

    Args:
        tower: the tower.
        clips: `(B, T, 3, height, width)`: uint8, which are normalized here, or normalized floats.
        guidance: how to prune. If None, nothing is pruned.
        texts: see :meth:`Guidance.encode`.
        generator: see :meth:`Guidance.encode`.

    Returns:
        `(B, T, N, D)`.
    """
    images = normalized(clips.flatten(0, 1))
    tokens = encode(tower, images) if guidance is None else guidance.encode(tower, images, texts, generator)
    return tokens.unflatten(0, clips.shape[:2])


def normalized(images: Tensor) -> Tensor:
    """Normalize uint8 pixels by CLIP's means and deviations, as BLIP, ALBEF and CLIP do; floats are normalized."""
    if images.dtype != torch.uint8:
        return images
    mean, std = (images.new_tensor(values, dtype=torch.float32) for values in (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD))
    return (images.float() / 255 - mean[:, None, None]) / std[:, None, None]


def read_by_texts(tokens: Tensor, frames: str) -> Tensor:
    """Make what texts read of clips: `(B, T, N, D)` → `(B, N', D)`.

    Args:
        tokens: of every frame.
        frames: `concatenate` all tokens, or `pool` those at the same place.
    """
    return tokens.mean(dim=1) if frames == "pool" else tokens.flatten(1, 2)

"""Runs a vision tower block by block and prunes its tokens on the way.

Notation: see :mod:`evlvideo.models.tokens.pruning`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol
from zlib import crc32

import torch
from torch import Tensor

from evlvideo.errors import UserError
from evlvideo.models.tokens.pruning import (
    VISION_SHARE,
    LookAhead,
    Prune,
    PruningSchedule,
    blend,
    choose,
    class_attention,
    keep_and_fold,
)


class PrunableTower(Protocol):
    """What pruning needs of a ViT with a class token and without positions inside its blocks."""

    depth: int
    """Blocks."""
    prefix: int
    """Tokens before the patches, which are never pruned; the class token is the first."""
    width: int
    """Channels of a token."""

    def embed(self, images: Tensor) -> Tensor:
        """Images `(B, 3, height, width)` → tokens before the first block, `(B, N, C)`."""
        ...

    def run(self, block: int, tokens: Tensor) -> Tensor:
        """Run a block."""
        ...

    def query(self, block: int, class_token: Tensor) -> Tensor:
        """Compute a block's query of the class token, `(B, 1, C)` → `(B, H, 1, d)`."""
        ...

    def key(self, block: int, tokens: Tensor) -> Tensor:
        """Compute a block's keys, `(B, N, C)` → `(B, H, N, d)`."""
        ...

    def scale(self, block: int) -> float:
        """Scale of a block's products of queries and keys."""
        ...

    def finish(self, tokens: Tensor) -> Tensor:
        """Apply what follows the last block."""
        ...


Scores = Callable[[Tensor], Tensor]
"""Replaces the scores of the candidates, `(B, candidates)`, as controls do."""
Guide = Tensor | Callable[[int, Tensor], Tensor]
"""Class features of the texts, `(B, C)`; or what makes them of a prune's index and the class tokens `(B, C)` there."""


@dataclass(frozen=True, slots=True)
class Pruning:
    """How to prune.

    Raises:
        UserError: the share is not between 0 and 1.
    """

    schedule: PruningSchedule
    look_ahead: LookAhead = "exact"
    vision_share: float = VISION_SHARE
    """Share of the class token beside the guide."""
    fold: bool = True
    """Whether pruned tokens are folded into one. If False, they are dropped."""
    kept: tuple[int, ...] | None = None
    """Tokens that each prune keeps. Defaults to the schedule's shares of the patches."""
    change_scores: Scores | None = None
    """A control, such as random scores."""
    at_random: bool = False
    """A control: whether scores are random, the same whenever an image is encoded; see :func:`scores_by_image`."""

    def __post_init__(self) -> None:
        if not 0 <= self.vision_share <= 1:
            raise UserError(f"vision_share is {self.vision_share}; it must be between 0 and 1.")


@dataclass(frozen=True, slots=True)
class Encoding:
    """Output of a pruned tower."""

    tokens: Tensor
    """`(B, tokens left, C)`."""
    prunes: list[Prune | None] = field(default_factory=list)
    """What each prune kept and folded; None where there was nothing to prune."""
    pruned: list[Tensor] = field(default_factory=list)
    """Tokens after each prune, which enter the next block."""


def encode(tower: PrunableTower, images: Tensor) -> Tensor:
    """Run a tower whole: images `(B, 3, height, width)` → `(B, N, C)`, without guide and without pruning."""
    tokens = tower.embed(images)
    for block in range(tower.depth):
        tokens = tower.run(block, tokens)
    return tower.finish(tokens)


def encode_pruned(tower: PrunableTower, images: Tensor, guide: Guide | None, pruning: Pruning) -> Encoding:
    """Run a tower and prune its tokens.

    Args:
        tower: in any mode; blocks that are looked ahead run in the same, without gradient.
        images: `(B, 3, height, width)`.
        guide: see :data:`Guide`; it takes no gradient. If None, the class token guides alone.
        pruning: how.

    Raises:
        UserError: the schedule does not fit the tower, or the guide its width.
    """
    schedule = pruning.schedule
    schedule.check_depth(tower.depth)
    if pruning.at_random and not images.is_meta:
        pruning = replace(pruning, change_scores=scores_by_image(images))
    tokens = tower.embed(images)
    kept = pruning.kept or schedule.kept_patches(tokens.shape[1] - tower.prefix)
    ahead = dict(zip(schedule.begin, schedule.look_ahead, strict=True))
    waiting = dict(zip(schedule.begin, kept, strict=True))
    encoding, before = Encoding(tokens), tokens
    for block in range(tower.depth):
        if block in waiting:
            text = _text(guide, len(encoding.prunes), tokens, tower.width)
            scores = _scores(tower, block, tokens, before, text, pruning, ahead[block])
            tokens = _prune(tokens, scores, waiting[block], tower.prefix, pruning, encoding)
        before = tokens
        tokens = tower.run(block, tokens)
    return Encoding(tower.finish(tokens), encoding.prunes, encoding.pruned)


def _prune(tokens: Tensor, scores: Tensor, k: int, prefix: int, pruning: Pruning, encoding: Encoding) -> Tensor:
    candidates = scores[:, prefix:]
    if pruning.change_scores is not None:
        candidates = pruning.change_scores(candidates)
    prune = choose(candidates, k, prefix)
    if prune is not None:
        tokens = keep_and_fold(tokens, prune, prefix, fold=pruning.fold)
    encoding.prunes.append(prune)
    encoding.pruned.append(tokens)
    return tokens


@torch.no_grad()
def _scores(
    tower: PrunableTower,
    block: int,
    tokens: Tensor,
    before: Tensor,
    guide: Tensor | None,
    pruning: Pruning,
    ahead: int,
) -> Tensor:
    """Score all tokens before a block, `(B, N)`.

    Args:
        tower: the tower.
        block: the block that follows.
        tokens: its input.
        before: the input of the block just run.
        guide: class features of the texts, `(B, C)`, or None.
        pruning: how.
        ahead: blocks to look ahead.
    """
    copy = blend(tokens, guide, pruning.vision_share)
    keyed = copy
    if pruning.look_ahead == "exact":
        for looked in range(block, block + ahead - 1):
            copy = tower.run(looked, copy)
        block, keyed = block + ahead - 1, copy
    elif pruning.look_ahead == "previous":
        block, keyed = block - 1, before
    return class_attention(tower.query(block, copy[:, :1]), tower.key(block, keyed), tower.scale(block))


@torch.no_grad()
def _text(guide: Guide | None, prune: int, tokens: Tensor, width: int) -> Tensor | None:
    """Return the class features of the texts that guide a prune, `(B, C)`."""
    text = guide if guide is None or isinstance(guide, Tensor) else guide(prune, tokens[:, 0])
    if text is not None and text.shape[-1] != width:
        raise UserError(
            f"The text has {text.shape[-1]} channels and the tower {width}; use a text encoder of the tower's width, "
            "or project the text first."
        )
    return text


def random_scores(generator: torch.Generator) -> Scores:
    """Make scores that know nothing of the images, for a control."""
    return lambda scores: torch.rand(scores.shape, generator=generator).to(scores)


def scores_by_image(images: Tensor) -> Scores:
    """Make random scores whose seed is the checksum of an image's pixels.

    They are the same whenever the image is encoded, alone or in a batch, by one process or several.

    Args:
        images: `(B, 3, height, width)`.
    """
    checksums = [crc32(image.float().contiguous().numpy().tobytes()) for image in images.detach().cpu()]
    generators = [torch.Generator().manual_seed(checksum) for checksum in checksums]

    def scores(given: Tensor) -> Tensor:
        rows = [torch.rand(given.shape[1], generator=generator) for generator in generators]
        return torch.stack(rows).to(given)

    return scores


@torch.no_grad()
def class_tokens(tower: PrunableTower, images: Tensor, blocks: Sequence[int]) -> Tensor:
    """Run a tower whole, and return the class tokens that enter some blocks, and the one that the tower gives.

    Args:
        tower: in eval mode.
        images: `(B, 3, height, width)`.
        blocks: indices, rising.

    Returns:
        `(B, len(blocks) + 1, C)`.
    """
    tokens, found = tower.embed(images), []
    for block in range(tower.depth):
        if block in blocks:
            found.append(tokens[:, 0])
        tokens = tower.run(block, tokens)
    return torch.stack([*found, tower.finish(tokens)[:, 0]], dim=1)

"""ELIP: prune the tokens of a ViT under the guidance of a text, and fold what is pruned into one token.

Source: ELIP (Guo et al., arXiv 2309.16738) and its published code for BLIP, ALBEF, METER and CLIP. Nothing is trained.
Before some blocks, the text's class feature is blended into the class token of a copy of the tokens, the attention of
that class token scores the patches, the best are kept in their order, and all others are folded into one token, which
the next prune may keep or fold like any patch. Notation: `B` images, `N` tokens of an image, `Q` prefix tokens among
them (the class token is the first), `C` channels, `H` heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from evlvideo.errors import UserError
from evlvideo.models.precision import in_float32

LookAhead = Literal["exact", "one", "previous"]
LOOK_AHEADS: tuple[str, ...] = get_args(LookAhead)
"""Where scores come from. `exact`: the last of the blocks that are looked ahead, as published, of which only the class
token's attention is computed. `one`: the block that follows. `previous`: the block just run, whose keys exist
already."""
VISION_SHARE = 0.8
"""Share of the class token that remains when the text's feature is blended in, as published."""
_EPSILON = 1e-6
"""Added to the sum of the folded tokens' scores, as published."""


@dataclass(frozen=True, slots=True)
class PruningSchedule:
    """Where to prune, how far to look ahead, and how much to keep; one entry for each prune.

    Raises:
        UserError: entries are missing, out of their bounds, or out of order.
    """

    begin: tuple[int, ...]
    """Blocks before which tokens are pruned, counted from 0, rising; at least 1."""
    look_ahead: tuple[int, ...]
    """Blocks that `exact` looks ahead, at least 1."""
    keep: tuple[float, ...]
    """Share of the image's patches that is kept, above 0 and below 1, falling."""

    def __post_init__(self) -> None:
        problems = []
        if not self.begin or not len(self.begin) == len(self.look_ahead) == len(self.keep):
            problems.append("begin, look_ahead and keep need one entry for each prune, and at least one")
        if list(self.begin) != sorted({*self.begin}) or min(self.begin, default=1) < 1:
            problems.append(f"begin is {list(self.begin)}; its blocks must rise, from 1")
        if min(self.look_ahead, default=1) < 1:
            problems.append(f"look_ahead is {list(self.look_ahead)}; each must be at least 1")
        if list(self.keep) != sorted({*self.keep}, reverse=True) or not all(0 < share < 1 for share in self.keep):
            problems.append(f"keep is {list(self.keep)}; its shares must fall, between 0 and 1")
        if problems:
            raise UserError(f"The pruning schedule is wrong: {'; '.join(problems)}.")

    def check_depth(self, depth: int) -> None:
        """Check that a tower has the blocks.

        Raises:
            UserError: it has not.
        """
        last = max(first + ahead for first, ahead in zip(self.begin, self.look_ahead, strict=True))
        if last > depth:
            raise UserError(
                f"The pruning schedule looks ahead to block {last - 1}, and the tower has blocks 0 to {depth - 1}; "
                "begin earlier, or look ahead less far."
            )

    def kept_patches(self, patches: int) -> tuple[int, ...]:
        """Count what each prune keeps: the share of the image's own patches, rounded down.

        BLIP and ALBEF do so. The published code of METER and CLIP takes a literal 49 and 197, at any image size.

        Raises:
            UserError: a prune would keep nothing.
        """
        kept = tuple(int(share * patches) for share in self.keep)
        if min(kept) < 1:
            raise UserError(f"keep is {list(self.keep)}, of {patches} patches: a prune would keep none.")
        return kept


PRESETS = {
    "blip": PruningSchedule((2, 4, 10), (2, 6, 2), (0.9, 0.65, 0.4)),
    "albef": PruningSchedule((2, 4, 10), (2, 6, 2), (0.9, 0.65, 0.4)),
    "clip": PruningSchedule((2, 4, 10), (2, 6, 2), (0.9, 0.65, 0.4)),
    "meter": PruningSchedule((2, 4, 9), (2, 5, 2), (0.9, 0.7, 0.45)),
}
"""Published schedules, by host: ViT-B of 12 blocks, for METER of 11."""


def tokens_by_block(
    schedule: PruningSchedule, depth: int, patches: int, prefix: int = 1, *, fold: bool = True
) -> tuple[int, ...]:
    """Count the tokens that each block runs on; with `fold`, one stands for all that were pruned."""
    begins = dict(zip(schedule.begin, schedule.kept_patches(patches), strict=True))
    counts, candidates = [], patches
    for block in range(depth):
        if block in begins and begins[block] < candidates:
            candidates = begins[block] + fold
        counts.append(prefix + candidates)
    return tuple(counts)


def blend(tokens: Tensor, guide: Tensor | None, vision_share: float = VISION_SHARE) -> Tensor:
    """Blend a guide into the class token, without gradient.

    Args:
        tokens: `(B, N, C)`, the class token first; unchanged.
        guide: class features of the texts, `(B, C)`. If None, the class token guides alone.
        vision_share: share of the class token that remains, from 0 to 1.

    Returns:
        a copy, `(B, N, C)`.
    """
    tokens = tokens.detach()
    if guide is None:
        return tokens
    with in_float32(tokens.device):
        class_token = (1 - vision_share) * guide.detach().float() + vision_share * tokens[:, 0].float()
    return torch.cat([class_token.to(tokens.dtype).unsqueeze(1), tokens[:, 1:]], dim=1)


@torch.no_grad()
def class_attention(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """Compute the attention of the class token to every token, averaged over the heads, in float32.

    Args:
        query: of the class token, `(B, H, 1, d)`.
        key: of all tokens, `(B, H, N, d)`.
        scale: of the products.

    Returns:
        `(B, N)`; rows sum to 1.
    """
    with in_float32(query.device):
        products = (query.float() * scale) @ key.float().transpose(-2, -1)  # (B, H, 1, N)
        return products.softmax(dim=-1).mean(dim=1).squeeze(1)


@dataclass(frozen=True, slots=True)
class Prune:
    """What a prune kept and folded. Tokens are counted as before it, from the class token, 0."""

    kept: Tensor
    """`(B, k)`, rising."""
    folded: Tensor
    """`(B, candidates − k)`, rising."""
    weights: Tensor
    """Share of each folded token in the one that stands for all, as `folded`, float32."""
    scores: Tensor
    """Of the candidates, `(B, candidates)`, float32."""


def choose(scores: Tensor, k: int, prefix: int = 1) -> Prune | None:
    """Choose the `k` candidates of the highest scores; of equal ones the first.

    Args:
        scores: `(B, candidates)`, float32: those of the tokens behind the prefix.
        k: tokens to keep.
        prefix: `Q`.

    Returns:
        None if there are no more than `k` candidates: then nothing is pruned, and nothing folded.
    """
    if k >= scores.shape[1]:
        return None
    order = scores.argsort(dim=1, descending=True, stable=True)  # (B, candidates)
    kept, folded = order[:, :k].sort(dim=1).values, order[:, k:].sort(dim=1).values
    attention = scores.gather(1, folded)
    weights = attention / (attention.sum(dim=1, keepdim=True) + _EPSILON)
    return Prune(kept + prefix, folded + prefix, weights, scores)


def keep_and_fold(tokens: Tensor, prune: Prune, prefix: int = 1, *, fold: bool = True) -> Tensor:
    """Keep the prefix and the chosen tokens, and append the weighted sum of the others.

    Gradients flow into kept tokens, and into folded ones by their weights; none into the scores.

    Args:
        tokens: `(B, N, C)`.
        prune: from :func:`choose`.
        prefix: `Q`.
        fold: if False, what is not kept is dropped, and the last token is missing.

    Returns:
        `(B, Q + k + 1, C)`, in the type of the tokens.
    """
    channels = tokens.shape[-1]
    kept = tokens.gather(1, prune.kept.unsqueeze(-1).expand(-1, -1, channels))
    if not fold:
        return torch.cat([tokens[:, :prefix], kept], dim=1)
    others = tokens.gather(1, prune.folded.unsqueeze(-1).expand(-1, -1, channels))
    with in_float32(tokens.device):
        folded = (prune.weights.unsqueeze(-1) * others.float()).sum(dim=1, keepdim=True)  # (B, 1, C)
    return torch.cat([tokens[:, :prefix], kept, folded.to(tokens.dtype)], dim=1)


def token_sources(prunes: Sequence[Prune | None], num_tokens: int, prefix: int = 1, *, fold: bool = True) -> Tensor:
    """Tell what the tokens after several prunes are made of, for pictures.

    Args:
        prunes: in their order; None for those that pruned nothing. At least one pruned something.
        num_tokens: `N` before the first.
        prefix: `Q`.
        fold: as in :func:`keep_and_fold`.

    Returns:
        share of each first token in each last one, `(B, tokens left, N)`. Rows of kept tokens have a single 1.
    """
    done = [prune for prune in prunes if prune is not None]
    batch = len(done[0].kept)
    sources = torch.eye(num_tokens, device=done[0].kept.device).expand(batch, -1, -1)
    for prune in done:
        sources = keep_and_fold(sources, prune, prefix, fold=fold)
    return sources


def patches_left(prunes: Sequence[Prune | None], num_patches: int, prefix: int = 1) -> Tensor:
    """Tell which patches still have a token of their own after each prune, for pictures.

    Args:
        prunes: in their order; None for those that pruned nothing. At least one pruned something.
        num_patches: patches of an image before the first.
        prefix: `Q`.

    Returns:
        booleans, `(B, prunes, num_patches)`.
    """
    first = next(prune for prune in prunes if prune is not None)
    batch, device = len(first.kept), first.kept.device
    # The folded token is a candidate too: it stands for no patch, which the number behind the last one says.
    folded = torch.full((batch, 1), num_patches, device=device)
    patch_of = torch.cat([torch.arange(num_patches, device=device).expand(batch, -1), folded], dim=1)
    left = []
    for prune in prunes:
        if prune is not None:
            patch_of = torch.cat([patch_of.gather(1, prune.kept - prefix), folded], dim=1)
        alive = torch.zeros(batch, num_patches + 1, dtype=torch.bool, device=device)
        left.append(alive.scatter(1, patch_of, True)[:, :num_patches])
    return torch.stack(left, dim=1)

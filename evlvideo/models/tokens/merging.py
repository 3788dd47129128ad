"""Bipartite soft matching of tokens, and how many tokens each layer merges.

Source: Token Merging (Bolya et al., ICLR 2023), sections 3 and 4.1; EVLGen (Jian et al., ACL 2024) for the plain mean.
Notation: `B` batch, `N` tokens, `C` channels, `r` tokens merged away.
"""

from collections.abc import Sequence
from typing import Literal, Protocol, cast, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from evlvideo.errors import UserError
from evlvideo.models.precision import in_float32

Reduction = Literal["mean", "size_weighted"]
REDUCTIONS: tuple[str, ...] = get_args(Reduction)

_ScatterReduction = Literal["mean", "sum", "amax"]


class Merge(Protocol):
    """Merges tokens `(B, N, C)` → `(B, N − r, C)`: unmerged even tokens first, then the odd tokens."""

    def __call__(self, x: Tensor, reduction: _ScatterReduction = "mean") -> Tensor:
        """Reduce each odd token with the even tokens matched to it."""
        ...


def mergeable_tokens(num_tokens: int, class_token: bool) -> int:
    """Count the tokens that one matching can merge away: half of those that are not protected."""
    return (num_tokens - int(class_token)) // 2


def bipartite_soft_matching(metric: Tensor, r: int, *, class_token: bool = False) -> Merge:
    """Match each even token with its most similar odd token, and merge the `r` best pairs.

    Similarities are computed in float32, whatever the dtype of `metric` and whatever autocast says. The choice of pairs
    has no gradient. A metric of zero has similarity 0 to every other.

    Args:
        metric: compared by cosine similarity, `(B, N, C)`.
        r: pairs to merge; capped at half of the mergeable tokens.
        class_token: whether token 0 is a class token, which is never merged.

    Returns:
        a function that merges any tensor `(B, N, ·)` of the same tokens.

    Raises:
        ValueError: `r` is negative.
    """
    if r < 0:
        raise ValueError(f"r is {r}; the number of merged tokens cannot be negative.")
    r = min(r, mergeable_tokens(metric.shape[1], class_token))
    if r == 0:
        return _keep
    source, partner, kept = _match(metric, r, class_token)  # (B, r, 1), (B, r, 1), (B, N_even − r, 1)

    def merge(x: Tensor, reduction: _ScatterReduction = "mean") -> Tensor:
        even, odd = x[:, ::2], x[:, 1::2]
        channels = x.shape[-1]
        unmerged = even.gather(1, kept.expand(-1, -1, channels))
        sources = even.gather(1, source.expand(-1, -1, channels))
        odd = odd.scatter_reduce(1, partner.expand(-1, -1, channels), sources, reduction)
        return torch.cat([unmerged, odd], dim=1)  # (B, N − r, C)

    return merge


@torch.no_grad()
def _match(metric: Tensor, r: int, class_token: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Choose pairs: indices of sources and of kept tokens among the even ones, of partners among the odd ones."""
    # In half precision, as under autocast, nearly equal similarities could not be told apart.
    with in_float32(metric.device):
        metric = F.normalize(metric.float(), dim=-1)
        similarity = metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)  # (B, N_even, N_odd)
    if class_token:
        similarity[:, 0] = -torch.inf
    best, best_partner = similarity.max(dim=-1)  # (B, N_even)
    order = best.argsort(dim=-1, descending=True)
    source, kept = order[:, :r], order[:, r:]
    if class_token:
        # The class token is least similar of all; sorting puts it first again.
        kept = kept.sort(dim=-1).values
    partner = best_partner.gather(1, source)
    return source.unsqueeze(-1), partner.unsqueeze(-1), kept.unsqueeze(-1)


def _keep(x: Tensor, reduction: _ScatterReduction = "mean") -> Tensor:
    return x


def merge_mean(merge: Merge, x: Tensor) -> Tensor:
    """Average each partner with its sources, all with the same weight, `(B, N, C)` → `(B, N − r, C)` (EVLGen)."""
    return merge(x, "mean")


def merge_size_weighted(merge: Merge, x: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Average each partner with its sources, weighted by the original tokens in each (ToMe).

    Args:
        merge: from :func:`bipartite_soft_matching`.
        x: tokens, `(B, N, C)`.
        size: original tokens in each, `(B, N, 1)`.

    Returns:
        tokens `(B, N − r, C)` and their sizes `(B, N − r, 1)`.
    """
    merged = merge(x * size, "sum")
    size = merge(size, "sum")
    return merged / size, size


def merge_source(merge: Merge, source: Tensor) -> Tensor:
    """Track which original tokens are in each merged token, to draw them.

    Args:
        merge: from :func:`bipartite_soft_matching`.
        source: `(B, N, N_original)` of zeros and ones; start from :func:`identity_source`.

    Returns:
        `(B, N − r, N_original)`.
    """
    return merge(source, "amax")


def identity_source(batch: int, tokens: int, device: torch.device | None = None) -> Tensor:
    """Start tracking: every token is itself, `(B, N, N)`."""
    return torch.eye(tokens, device=device).expand(batch, tokens, tokens)


def merge_schedule(r: int | Sequence[float], num_layers: int) -> list[int]:
    """Spread merging over the layers: how many tokens each merges.

    Args:
        r: one number for all layers; or a list with one number for each layer; or `(r, inflection)`: a linear ramp as
            in ToMe, `r` on average, with inflection −1 (all early) … 0 (constant) … 1 (all late). With two layers, a
            pair of integers is one number for each layer.
        num_layers: layers of the connector.

    Raises:
        UserError: a negative or fractional number, an inflection outside −1…1, or a list of another length.
    """
    if isinstance(r, int):
        values: list[float] = [r] * num_layers
    elif len(r) == num_layers and all(isinstance(value, int) for value in r):
        values = list(r)
    elif len(r) == 2:
        average, inflection = r
        if not -1 <= inflection <= 1:
            raise UserError(f"merge_r is {list(r)}; the inflection, its second number, must lie between -1 and 1.")
        first = int(average * (1 - inflection))
        step = 2 * (average - first) / max(1, num_layers - 1)
        values = [int(first + step * layer) for layer in range(num_layers)]
    else:
        raise UserError(
            f"merge_r has {len(r)} numbers for {num_layers} layers; give one number, one a layer, or [r, inflection]."
        )
    if any(value < 0 or value != int(value) for value in values):
        raise UserError(f"merge_r is {r}; every layer merges a whole number of tokens, 0 or more.")
    return [int(value) for value in cast("list[int]", values)]


def merge_schedule_to(target: int, num_tokens: int, num_layers: int, *, class_token: bool) -> list[int]:
    """Spread merging over the layers so that exactly `target` tokens are left.

    All layers merge the same number of tokens, or the first ones one more. A layer whose cap is lower merges as many as
    it can; the others then merge more.

    Args:
        target: tokens of a frame that are left, with the class token.
        num_tokens: tokens of a frame before the first layer.
        num_layers: layers of the connector.
        class_token: whether one of the tokens is a class token, which is never merged.

    Raises:
        UserError: so few, or so many, tokens cannot be left.
    """
    least = tokens_after(num_tokens, [num_tokens] * num_layers, class_token)
    if not least <= target <= num_tokens:
        raise UserError(
            f"merge_to is {target}; allowed: {least} to {num_tokens}. A frame has {num_tokens} tokens, and each of the "
            f"{num_layers} layers of the connector can merge half of them away."
        )
    # One layer that merges one more leaves one token fewer, or, with caps after it, as many: no target is skipped.
    schedules = ([r + 1] * first + [r] * (num_layers - first) for r in range(num_tokens) for first in range(num_layers))
    found = next(schedule for schedule in schedules if tokens_after(num_tokens, schedule, class_token) == target)
    return merged_by_layer(num_tokens, found, class_token)


def merged_by_layer(num_tokens: int, schedule: Sequence[int], class_token: bool) -> list[int]:
    """Count the tokens that each layer of `schedule` merges away, with its cap."""
    merged = []
    for r in schedule:
        merged.append(min(r, mergeable_tokens(num_tokens, class_token)))
        num_tokens -= merged[-1]
    return merged


def tokens_after(num_tokens: int, schedule: Sequence[int], class_token: bool) -> int:
    """Count the tokens left of `num_tokens` after all layers of `schedule`, each with its cap."""
    return num_tokens - sum(merged_by_layer(num_tokens, schedule, class_token))

"""Baselines that rewards of sampled captions are compared with. Pure functions of rewards.

A caption that could not be scored has the reward NaN.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def greedy_baseline(rewards: Tensor, greedy_rewards: Tensor) -> Tensor:
    """Return the reward of the clip's greedy caption (Rennie et al., CVPR 2017).

    Args:
        rewards: rewards of the samples, `(B, S)`.
        greedy_rewards: rewards of the greedy captions, `(B)`.

    Returns:
        one baseline per sample, `(B, S)`.
    """
    return greedy_rewards.unsqueeze(1).expand_as(rewards)


def loo_baseline(rewards: Tensor, greedy_rewards: Tensor | None = None) -> Tensor:
    """Return the mean reward of the clip's other samples (Luo, arXiv 2003.09971).

    Args:
        rewards: rewards of the samples, `(B, S)` with `S` of 2 or more.
        greedy_rewards: unused.

    Returns:
        one baseline per sample, `(B, S)`, NaN if no other sample has a reward; the advantages of a clip's samples sum
        to zero.
    """
    others = (~rewards.isnan()).sum(dim=1, keepdim=True) - 1
    return (rewards.nansum(dim=1, keepdim=True) - rewards) / others


def mean_baseline(rewards: Tensor, greedy_rewards: Tensor | None = None) -> Tensor:
    """Return the mean reward of all samples of the clip, including the sample itself.

    The advantages are those of :func:`loo_baseline` times `(S − 1) / S`. It is the
    published form for candidates of a beam search, which are not independent (Cornia et al., CVPR 2020).

    Args:
        rewards: rewards of the samples, `(B, S)` with `S` of 2 or more.
        greedy_rewards: unused.

    Returns:
        one baseline per sample, `(B, S)`; the advantages of a clip's samples sum to zero.
    """
    return rewards.nanmean(dim=1, keepdim=True).expand_as(rewards)


def advantages(rewards: Tensor, baseline: Tensor) -> Tensor:
    """Subtract the baseline from the reward; zero if either is NaN, so captions without a score train nothing.

    Args:
        rewards: rewards of the samples, `(B, S)`.
        baseline: `(B, S)`.

    Returns:
        `(B, S)`.
    """
    difference = rewards - baseline
    return torch.where(difference.isnan(), 0.0, difference)


BASELINES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "greedy": greedy_baseline,
    "loo": loo_baseline,
    "mean": mean_baseline,
}
"""By the name in the config."""

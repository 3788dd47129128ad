"""What the reward of a sampled caption is compared with. Pure functions of rewards.

A reward of NaN is of a caption that could not be scored.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def greedy_baseline(rewards: Tensor, greedy_rewards: Tensor) -> Tensor:
    """The reward of the clip's greedy caption (Rennie et al., CVPR 2017).

    Args:
        rewards: of the samples, `(B, S)`.
        greedy_rewards: of the greedy captions, `(B)`.

    Returns:
        one baseline a sample, `(B, S)`.
    """
    return greedy_rewards.unsqueeze(1).expand_as(rewards)


def loo_baseline(rewards: Tensor, greedy_rewards: Tensor | None = None) -> Tensor:
    """The mean reward of the clip's other samples (Luo, arXiv 2003.09971).

    Args:
        rewards: of the samples, `(B, S)` with `S` of 2 or more.
        greedy_rewards: not used.

    Returns:
        one baseline a sample, `(B, S)`, NaN where no other sample has a reward; the advantages of a clip's samples sum
        to zero.
    """
    others = (~rewards.isnan()).sum(dim=1, keepdim=True) - 1
    return (rewards.nansum(dim=1, keepdim=True) - rewards) / others


def mean_baseline(rewards: Tensor, greedy_rewards: Tensor | None = None) -> Tensor:
    """The mean reward of all samples of the clip, the sample itself among them.

    The advantages are those of :func:`loo_baseline` times `(S − 1) / S`. For candidates that a beam search found, which
    are not drawn independently, it is the form that is published (Cornia et al., CVPR 2020).

    Args:
        rewards: of the samples, `(B, S)` with `S` of 2 or more.
        greedy_rewards: not used.

    Returns:
        one baseline a sample, `(B, S)`; the advantages of a clip's samples sum to zero.
    """
    return rewards.nanmean(dim=1, keepdim=True).expand_as(rewards)


def advantages(rewards: Tensor, baseline: Tensor) -> Tensor:
    """Reward minus baseline, and zero where one of the two is NaN, so that what cannot be scored trains nothing.

    Args:
        rewards: of the samples, `(B, S)`.
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

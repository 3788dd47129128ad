"""What the reward of a sampled caption is compared with. Pure functions of rewards."""

from collections.abc import Callable

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
        one baseline a sample, `(B, S)`; the advantages of a clip's samples sum to zero.
    """
    others = rewards.shape[1] - 1
    return (rewards.sum(dim=1, keepdim=True) - rewards) / others


BASELINES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"greedy": greedy_baseline, "loo": loo_baseline}
"""By the name in the config."""

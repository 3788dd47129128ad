"""The loss of self-critical sequence training: pure functions of logits, samples and rewards.

Source: Rennie et al., CVPR 2017. Notation: `R` sampled captions, `L` tokens, `V` vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class TokenStatistics(NamedTuple):
    """What a teacher-forced pass says of each token of a sample."""

    log_probability: Tensor
    """Of the sampled token, with gradient, `(R, L)`."""
    entropy: Tensor
    """Of the distribution that it was drawn from, in nats, without gradient, `(R, L)`."""


def sampled_tokens_mask(samples: Tensor, end_token_id: int) -> Tensor:
    """Which tokens were sampled: all up to the first ending, which is included; what follows is padding.

    Args:
        samples: new tokens, `(R, L)`.
        end_token_id: the token that ends a caption.

    Returns:
        booleans, `(R, L)`.
    """
    ends = samples == end_token_id
    return (ends.cumsum(dim=1) - ends.long()) == 0


def token_statistics(logits: Tensor, samples: Tensor, temperature: float = 1.0) -> TokenStatistics:
    """Log-probabilities of sampled tokens, and entropies, in float32.

    Args:
        logits: that predict the samples, `(R, L, V)`.
        samples: `(R, L)`.
        temperature: that the samples were drawn at.
    """
    log_probabilities = (logits.float() / temperature).log_softmax(dim=-1)  # (R, L, V)
    chosen = log_probabilities.gather(-1, samples.unsqueeze(-1)).squeeze(-1)  # (R, L)
    with torch.no_grad():
        # A vocabulary entry of probability 0 has log −inf and contributes nothing.
        entropy = torch.special.entr(log_probabilities.exp()).sum(dim=-1)  # (R, L)
    return TokenStatistics(chosen, entropy)


def policy_loss(log_probability: Tensor, mask: Tensor, advantage: Tensor) -> Tensor:
    """Minus the mean, over sampled tokens with the ending included, of advantage times log-probability.

    Args:
        log_probability: `(R, L)`.
        mask: sampled tokens, `(R, L)`.
        advantage: reward minus baseline of each caption, `(R)`.

    Returns:
        a scalar.
    """
    weighted = torch.where(mask, advantage.unsqueeze(1) * log_probability, 0.0)
    return -weighted.sum() / mask.sum()


def masked_mean(values: Tensor, mask: Tensor) -> float:
    """Mean of `values` where `mask` is set, both `(R, L)`."""
    return float((values * mask).sum() / mask.sum())

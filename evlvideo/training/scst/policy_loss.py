"""The loss of self-critical sequence training: pure functions of logits, samples and rewards.

Source: Rennie et al., CVPR 2017. Notation: `R` sampled captions, `L` tokens, `V` vocabulary.
"""

import torch
from torch import Tensor
from transformers import TopPLogitsWarper


def sampled_tokens_mask(samples: Tensor, end_token_id: int) -> Tensor:
    """Mark the tokens up to the first EOS token, which is included; what follows is padding.

    Args:
        samples: new tokens, `(R, L)`.
        end_token_id: the EOS token.

    Returns:
        booleans, `(R, L)`.
    """
    ends = samples == end_token_id
    return (ends.cumsum(dim=1) - ends.long()) == 0


@torch.no_grad()
def outside_nucleus(logits: Tensor, samples: Tensor, temperature: float, top_p: float) -> Tensor:
    """Mark the tokens outside the nucleus, which could not be sampled.

    The nucleus is taken as given: its size has no gradient.

    Args:
        logits: those that predict the samples, `(R, L, V)`.
        samples: sampled tokens, `(R, L)`. They count as inside even if rounding would leave them out.
        temperature: temperature of the samples.
        top_p: probability of the nucleus.

    Returns:
        booleans, `(R, L, V)`.
    """
    scaled = logits.float() / temperature
    nucleus: Tensor = TopPLogitsWarper(top_p)(None, scaled.flatten(0, 1)).view_as(scaled)
    return nucleus.isneginf().scatter(-1, samples.unsqueeze(-1), False)


def log_probabilities_inside(logits: Tensor, temperature: float = 1.0, outside: Tensor | None = None) -> Tensor:
    """Compute log-probabilities in float32, `(R, L, V)`: renormalised, with −inf for the tokens `outside`."""
    scaled = logits.float()
    if temperature != 1:
        scaled = scaled / temperature
    if outside is not None:
        scaled = scaled.masked_fill(outside, -torch.inf)
    return scaled.log_softmax(dim=-1)


def of_samples(log_probabilities: Tensor, samples: Tensor) -> Tensor:
    """Pick the sampled tokens' log-probabilities, `(R, L)`, from those of all tokens, `(R, L, V)`."""
    return log_probabilities.gather(-1, samples.unsqueeze(-1)).squeeze(-1)


def entropy(log_probabilities: Tensor) -> Tensor:
    """Compute the entropies of distributions `(R, L, V)` in nats, `(R, L)`."""
    # A token of probability 0 has log −inf and contributes nothing.
    return torch.special.entr(log_probabilities.exp()).sum(dim=-1)


def policy_loss(log_probability: Tensor, mask: Tensor, advantage: Tensor, tokens: Tensor | int | None = None) -> Tensor:
    """Average minus advantage times log-probability over the sampled tokens, EOS tokens included.

    Args:
        log_probability: `(R, L)`.
        mask: sampled tokens, `(R, L)`.
        advantage: reward minus baseline of each caption, `(R)`.
        tokens: number of tokens to average over. Defaults to those in `mask`.

    Returns:
        a scalar.
    """
    weighted = masked_sum(advantage.unsqueeze(1) * log_probability, mask)
    return -weighted / (mask.sum() if tokens is None else tokens)


def divergence(log_probabilities: Tensor, start: Tensor) -> Tensor:
    """Compute the Kullback-Leibler divergence of the model from the one it started from, per position, `(R, L)`.

    Sums over the whole vocabulary, which has less noise than an estimate from the sampled token. The gradient leaves
    out how the divergence depends on which texts are sampled.

    Args:
        log_probabilities: log-probabilities of the model, `(R, L, V)`.
        start: log-probabilities of the model that it started from, `(R, L, V)`.
    """
    # A token that neither model samples makes no difference; −inf minus −inf would be NaN.
    possible = log_probabilities > -torch.inf
    difference = torch.where(possible, log_probabilities, 0.0) - torch.where(possible, start, 0.0)
    return (log_probabilities.exp() * difference).sum(dim=-1)


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum `values` where `mask` is set, both `(R, L)`. Values elsewhere may be NaN or infinite."""
    return torch.where(mask, values, 0.0).sum()

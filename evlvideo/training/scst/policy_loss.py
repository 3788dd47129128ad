"""The loss of self-critical sequence training: pure functions of logits, samples and rewards.

Source: Rennie et al., CVPR 2017. Notation: `R` sampled captions, `L` tokens, `V` vocabulary.
"""

import torch
from torch import Tensor
from transformers import TopPLogitsWarper


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


def drawing_log_probabilities(logits: Tensor, samples: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """Log-probabilities of every token, of the distribution that samples were drawn from, in float32.

    With `top_p` below 1 that is the nucleus, renormalised; what is outside has −inf. Which tokens are in it is taken as
    given, as its size has no gradient.

    Args:
        logits: that predict the samples, `(R, L, V)`.
        samples: what was drawn, `(R, L)`; it is in the nucleus, also where rounding would leave it out.
        temperature: of drawing.
        top_p: of drawing.

    Returns:
        `(R, L, V)`.
    """
    outside = outside_nucleus(logits, samples, temperature, top_p) if top_p < 1 else None
    return log_probabilities_inside(logits, temperature, outside)


@torch.no_grad()
def outside_nucleus(logits: Tensor, samples: Tensor, temperature: float, top_p: float) -> Tensor:
    """Which tokens could not be drawn, `(R, L, V)`; arguments as :func:`drawing_log_probabilities`."""
    scaled = logits.float() / temperature
    nucleus: Tensor = TopPLogitsWarper(top_p)(None, scaled.flatten(0, 1)).view_as(scaled)
    return nucleus.isneginf().scatter(-1, samples.unsqueeze(-1), False)


def log_probabilities_inside(logits: Tensor, temperature: float, outside: Tensor | None) -> Tensor:
    """Log-probabilities in float32, `(R, L, V)`, of all tokens but those `outside`, which have −inf."""
    scaled = logits.float()
    if temperature != 1:
        scaled = scaled / temperature
    if outside is not None:
        scaled = scaled.masked_fill(outside, -torch.inf)
    return scaled.log_softmax(dim=-1)


def of_samples(log_probabilities: Tensor, samples: Tensor) -> Tensor:
    """Log-probabilities of the sampled tokens, `(R, L)`, of those of all tokens, `(R, L, V)`."""
    return log_probabilities.gather(-1, samples.unsqueeze(-1)).squeeze(-1)


def entropy(log_probabilities: Tensor) -> Tensor:
    """Entropies in nats, `(R, L)`, of distributions `(R, L, V)`."""
    # A token of probability 0 has log −inf and contributes nothing.
    return torch.special.entr(log_probabilities.exp()).sum(dim=-1)


def policy_loss(log_probability: Tensor, mask: Tensor, advantage: Tensor, tokens: Tensor | int | None = None) -> Tensor:
    """Minus the mean, over sampled tokens with the ending included, of advantage times log-probability.

    Args:
        log_probability: `(R, L)`.
        mask: sampled tokens, `(R, L)`.
        advantage: reward minus baseline of each caption, `(R)`.
        tokens: sampled tokens to average over, where they are not those of `mask` alone.

    Returns:
        a scalar.
    """
    weighted = masked_sum(advantage.unsqueeze(1) * log_probability, mask)
    return -weighted / (mask.sum() if tokens is None else tokens)


def divergence(log_probabilities: Tensor, start: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the model from the one it started from, at each place, `(R, L)`.

    The sum over the whole vocabulary is taken, which has less noise than an estimate from the sampled token. How the
    divergence depends on which texts are sampled is not in its gradient.

    Args:
        log_probabilities: of the model, `(R, L, V)`.
        start: of the model that it started from, `(R, L, V)`.
    """
    # What neither of the two draws is no difference; −inf minus −inf would not be a number.
    drawn = log_probabilities > -torch.inf
    difference = torch.where(drawn, log_probabilities, 0.0) - torch.where(drawn, start, 0.0)
    return (log_probabilities.exp() * difference).sum(dim=-1)


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Sum of `values` where `mask` is set, both `(R, L)`; what stands elsewhere may be no number."""
    return torch.where(mask, values, 0.0).sum()

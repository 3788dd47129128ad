"""What the loss and the log need of logits, a few captions at a time, so that copies of the vocabulary stay small.

Notation: `R` sampled captions, `L` tokens, `V` vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from evlvideo.training.policy_loss import (
    divergence,
    entropy,
    log_probabilities_inside,
    of_samples,
    outside_nucleus,
)

CHUNK_VALUES = 2**22
"""Logits that are looked at together: 16 MB of them in float32, and at most some six times that in all."""


class TokenTerms(NamedTuple):
    """What logits say of every sampled token; what stands behind an ending has no meaning."""

    log_probability: Tensor
    """Of the sampled token, `(R, L)`."""
    divergence: Tensor
    """From the model that the run started from, `(R, L)`; zeros where its logits were not given."""
    entropy: Tensor
    """Of the distribution that was drawn from, in nats, `(R, L)`, without gradient."""


def token_terms(
    logits: Tensor, samples: Tensor, *, temperature: float = 1.0, top_p: float = 1.0, start: Tensor | None = None
) -> TokenTerms:
    """Look at sampled tokens, in float32.

    For the backward pass nothing of the vocabulary's size is kept but the logits themselves; the rest is computed
    again.

    Args:
        logits: that predict the samples, `(R, L, V)`.
        samples: what was drawn, `(R, L)`.
        temperature: of drawing.
        top_p: of drawing.
        start: logits of the model that the run started from, `(R, L, V)`. The divergence from it is of all tokens, not
            of the nucleus: the two models' nuclei differ, and what is in one alone would be infinitely far.
    """
    rows = max(1, CHUNK_VALUES // logits[0].numel())
    # One split: the gradients of its parts are put together once, those of slices would be added up in full size.
    chunks = logits.split(rows)
    starts = [None] * len(chunks) if start is None else start.split(rows)
    terms = []
    for chunk, drawn, then in zip(chunks, samples.split(rows), starts, strict=True):
        outside = outside_nucleus(chunk, drawn, temperature, top_p) if top_p < 1 else None
        terms.append(
            checkpoint(_terms, chunk, drawn, then, outside, temperature, use_reentrant=False, preserve_rng_state=False)
        )
    return TokenTerms(*(torch.cat(parts) for parts in zip(*terms, strict=True)))


def _terms(
    logits: Tensor, samples: Tensor, start: Tensor | None, outside: Tensor | None, temperature: float
) -> TokenTerms:
    log_probabilities = log_probabilities_inside(logits, temperature, outside)
    of_drawn = of_samples(log_probabilities, samples)
    apart = torch.zeros_like(of_drawn)
    if start is not None:
        now = log_probabilities if outside is None else log_probabilities_inside(logits, temperature, None)
        apart = divergence(now, log_probabilities_inside(start, temperature, None))
    # Last, so that the backward pass, which computes anew what it needs, can stop before.
    return TokenTerms(of_drawn, apart, entropy(log_probabilities.detach()))

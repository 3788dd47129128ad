"""Reduces logits to what the loss and the log need, a few captions at a time to keep vocabulary-sized copies small.

Notation: `R` sampled captions, `L` tokens, `V` vocabulary.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from evlvideo.training.scst.policy_loss import (
    divergence,
    entropy,
    log_probabilities_inside,
    of_samples,
    outside_nucleus,
)

CHUNK_VALUES = 2**20
"""Logits processed together: 4 MB in float32, and at most about six times that in all."""


class TokenTerms(NamedTuple):
    """Values for every sampled token; those after the EOS token are meaningless."""

    log_probability: Tensor
    """Log-probability of the sampled token, `(R, L)`."""
    divergence: Tensor
    """Divergence from the model that the run started from, `(R, L)`; zeros without its logits."""
    entropy: Tensor
    """Entropy of the sampled distribution in nats, `(R, L)`, without gradient."""


def token_terms(
    logits: Tensor, samples: Tensor, *, temperature: float = 1.0, top_p: float = 1.0, start: Tensor | None = None
) -> TokenTerms:
    """Compute log-probability, divergence and entropy of sampled tokens in float32.

    Keeps only the logits and the nucleus at vocabulary size for the backward pass, and recomputes the rest.

    Args:
        logits: those that predict the samples, `(R, L, V)`.
        samples: sampled tokens, `(R, L)`.
        temperature: temperature of the samples.
        top_p: nucleus of the samples.
        start: logits of the model that the run started from, `(R, L, V)`. The divergence is over all tokens, not the
            nucleus: a token in only one model's nucleus would make it infinite.
    """
    outside = None
    if top_p < 1:
        outside = torch.cat(
            [outside_nucleus(logits[rows], samples[rows], temperature, top_p) for rows in _chunks(logits)]
        )
    return TokenTerms(*_ByRows.apply(logits, samples, start, outside, temperature))


class _ByRows(torch.autograd.Function):
    """Computes terms chunk by chunk; backward recomputes each chunk and writes its gradient in place."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, samples: Tensor, start: Tensor | None, outside: Tensor | None, temperature: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(logits, samples, start, outside)
        ctx.temperature = temperature
        parts = []
        for rows in _chunks(logits):
            log_probabilities = log_probabilities_inside(logits[rows], temperature, _rows_of(outside, rows))
            apart = _divergence(logits[rows], _rows_of(start, rows), temperature)
            parts.append((of_samples(log_probabilities, samples[rows]), apart, entropy(log_probabilities)))
        log_probability, divergences, entropies = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.mark_non_differentiable(entropies)
        return log_probability, divergences, entropies

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_log_probability: Tensor, of_divergence: Tensor, _: Tensor
    ) -> tuple[Tensor, None, None, None, None]:
        logits, samples, start, outside = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        for rows in _chunks(logits):
            then = _rows_of(start, rows)
            with torch.enable_grad():
                chunk = logits[rows].detach().requires_grad_()
                log_probabilities = log_probabilities_inside(chunk, ctx.temperature, _rows_of(outside, rows))
                log_probability = of_samples(log_probabilities, samples[rows])
                weighted = (of_log_probability[rows] * log_probability).sum()
                if then is not None:
                    weighted = weighted + (of_divergence[rows] * _divergence(chunk, then, ctx.temperature)).sum()
            (gradient[rows],) = torch.autograd.grad(weighted, chunk)
        return gradient, None, None, None, None


def _chunks(logits: Tensor) -> Iterator[slice]:
    """Slice the rows into chunks of one or more."""
    rows = max(1, CHUNK_VALUES // logits[0].numel())
    return (slice(first, first + rows) for first in range(0, len(logits), rows))


def _rows_of(values: Tensor | None, rows: slice) -> Tensor | None:
    return None if values is None else values[rows]


def _divergence(logits: Tensor, start: Tensor | None, temperature: float) -> Tensor:
    if start is None:
        return logits.new_zeros(logits.shape[:2], dtype=torch.float32)
    now, then = (log_probabilities_inside(of_model, temperature, None) for of_model in (logits, start))
    return divergence(now, then)

"""How far the soft prompts of different clips lie apart: prompts that are all alike say nothing about the pictures.

Pure functions. Notation: `C` clips, `N` tokens of a clip, `P` soft tokens of a clip, `E` channels, `V` vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

ALIKE = 0.01
"""Clips whose mean tokens lie less than this share of a token's norm apart count as all alike. Half precision rounds by
about as much, and the language model's norms divide by the norm."""
FAR_FROM_WORDS = 10.0
"""Soft tokens that are this many times longer or shorter than word embeddings are far from what the language model
knows."""


@dataclass(frozen=True, slots=True)
class PromptSpread:
    """How the soft prompts of several clips are spread; all values are in the units of the embeddings."""

    between: float
    """Root mean square over clips of |mean token of the clip − mean of these over clips|; 0 for one clip."""
    within: float
    """Root mean square over clips and tokens of |token − mean token of its clip|; 0 for one token a clip."""
    norm: float
    """Mean norm of a soft token."""
    words_norm: float | None
    """Mean norm of the rows of the language model's word embeddings, or None if they were not given."""

    @property
    def share(self) -> float:
        """`between` as a share of `norm`; 0 if all tokens are 0."""
        return self.between / self.norm if self.norm else 0.0

    @property
    def is_alike(self) -> bool:
        """Whether the prompts of different clips are nearly equal: :data:`ALIKE`. Not so if they are not finite."""
        return self.share < ALIKE

    @property
    def is_far_from_words(self) -> bool:
        """Whether soft tokens are much longer or shorter than word embeddings: :data:`FAR_FROM_WORDS`."""
        if not self.words_norm:
            return False
        return not 1 / FAR_FROM_WORDS <= self.norm / self.words_norm <= FAR_FROM_WORDS


def prompt_spread(soft_prompts: Tensor, words: Tensor | None = None) -> PromptSpread:
    """Measure the spread of the soft prompts of clips.

    Args:
        soft_prompts: `(C, P, E)`.
        words: the language model's word embeddings, `(V, E)`.

    Raises:
        ValueError: there are no clips or no tokens.
    """
    return spread_of(token_moments(soft_prompts), None if words is None else mean_norm(words))


def mean_norm(vectors: Tensor) -> float:
    """Average the norms of vectors, `(…, E)`, in float32."""
    return float(torch.linalg.vector_norm(vectors.detach(), dim=-1, dtype=torch.float32).mean())


@dataclass(frozen=True, slots=True)
class TokenMoments:
    """What the spread of many clips needs to know of each, in float32, so that their tokens need not be kept."""

    mean: Tensor
    """Mean token of each clip, `(C, E)`."""
    deviation: Tensor
    """Mean over a clip's tokens of |token − mean token|², `(C)`."""
    norm: Tensor
    """Mean norm of a clip's tokens, `(C)`."""

    def clip(self, index: int) -> "TokenMoments":
        """Take those of one clip."""
        rows = slice(index, index + 1)
        return TokenMoments(self.mean[rows], self.deviation[rows], self.norm[rows])


def token_moments(tokens: Tensor) -> TokenMoments:
    """Reduce the tokens of clips, `(C, N, E)`.

    Raises:
        ValueError: there are no clips or no tokens.
    """
    if tokens.ndim != 3 or not tokens.numel():
        raise ValueError(f"Tokens have the shape {tuple(tokens.shape)}; it must be (clips, tokens, channels).")
    tokens = tokens.detach().float()
    mean = tokens.mean(dim=1)  # (C, E)
    deviation = (tokens - mean.unsqueeze(1)).square().sum(dim=-1).mean(dim=1)  # (C)
    return TokenMoments(mean, deviation, tokens.norm(dim=-1).mean(dim=1))


def joined_moments(parts: list[TokenMoments]) -> TokenMoments:
    """Join the moments of batches of clips, at least one."""
    return TokenMoments(*(torch.cat([getattr(part, name) for part in parts]) for name in ("mean", "deviation", "norm")))


def spread_of(moments: TokenMoments, words_norm: float | None = None) -> PromptSpread:
    """Compute the spread from the moments of all clips."""
    between = (moments.mean - moments.mean.mean(dim=0)).square().sum(dim=-1).mean().sqrt()
    return PromptSpread(
        between=float(between),
        within=float(moments.deviation.mean().sqrt()),
        norm=float(moments.norm.mean()),
        words_norm=words_norm,
    )

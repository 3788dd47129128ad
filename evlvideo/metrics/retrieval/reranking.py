"""Re-rank the best candidates of each query by matching scores, as BLIP and ALBEF do.

Only the order of the first `k` changes: a query whose right candidates are not among them keeps the rank that its
similarities give it. The published code scores all others alike, so that such ranks, and mean and median ranks, are
arbitrary; recalls up to `k` are the same.
"""

import numpy as np

from evlvideo.errors import UserError
from evlvideo.metrics.retrieval.ranks import Places, RightPairs


def rerank(places: Places, right: RightPairs, candidates: np.ndarray, scores: np.ndarray) -> Places:
    """Find where the best right candidates stand after re-ranking.

    Args:
        places: by similarity.
        right: the right pairs.
        candidates: first candidates of each query, different ones, `(Q, k)`.
        scores: matching scores of these, `(Q, k)`.

    Raises:
        UserError: a score is NaN, or the shapes differ.
    """
    if scores.shape != candidates.shape or len(candidates) != len(places.better):
        raise UserError(
            f"There are candidates of shape {list(candidates.shape)} and matching scores of shape "
            f"{list(scores.shape)} for {len(places.better)} queries; each query needs as many of one as of the other."
        )
    if np.isnan(scores).any():
        raise UserError(f"Matching scores of query {int(np.isnan(scores).any(axis=1).argmax())} are NaN.")
    is_right = _is_right(right, candidates)
    there = is_right.any(axis=1)
    best = np.where(is_right, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    return Places(
        np.where(there, ((scores > best) & ~is_right).sum(axis=1), places.better),
        np.where(there, ((scores == best) & ~is_right).sum(axis=1), places.tied),
        np.where(there, ((scores == best) & is_right).sum(axis=1), places.right_tied),
    )


def _is_right(right: RightPairs, candidates: np.ndarray) -> np.ndarray:
    """Return which candidates are right, `(Q, k)`."""
    width = int(max(candidates.max(initial=0), right.candidates.max(initial=0))) + 1
    queries = np.arange(len(candidates))[:, None]
    found: np.ndarray = np.isin(queries * width + candidates, right.queries * width + right.candidates)
    return found

"""Ranks of the right candidates of queries.

A query may have several right candidates, as an image has several texts; its rank is that of the best of them.

**Ties.** Two of a query's scores closer than a tolerance are equal. By default a right candidate stands behind all
wrong ones of the same score (`pessimistic`), so that a model whose scores are all equal finds nothing. With `expected`,
ties are broken at random: ranks and recalls are the means over all orders.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from evlvideo.errors import UserError

Ties = Literal["pessimistic", "expected"]
TIES: tuple[str, ...] = get_args(Ties)
SAME_SIMILARITY = 1e-6
"""Tolerance for similarities of float32 features of length 1, whose last digits depend on the order of summation."""


@dataclass(frozen=True, slots=True)
class RightPairs:
    """Which candidates are right for which query; each query has at least one."""

    queries: np.ndarray
    """Query of each pair, rising, `(pairs,)`."""
    candidates: np.ndarray
    """Its candidate, `(pairs,)`."""

    @property
    def firsts(self) -> np.ndarray:
        """Return the first pair of each query, `(Q,)`."""
        return np.flatnonzero(np.diff(self.queries, prepend=-1))


def pairs_of(owner: np.ndarray) -> tuple[RightPairs, RightPairs]:
    """Return the right texts of each image, and the right image of each text.

    Args:
        owner: image of each text, `(M,)`.
    """
    texts = np.arange(len(owner))
    order = np.argsort(owner, kind="stable")
    return RightPairs(owner[order], order), RightPairs(texts, owner)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the best right candidate of each query stands. All arrays are `(Q,)`."""

    better: np.ndarray
    """Wrong candidates with higher scores."""
    tied: np.ndarray
    """Wrong candidates with the same score."""
    right_tied: np.ndarray
    """Right candidates with that score, at least 1."""

    def ranks(self, ties: Ties = "pessimistic") -> np.ndarray:
        """Return the rank of each query's best right candidate, from 1, `(Q,)`, float64."""
        if ties == "pessimistic":
            return (self.better + self.tied + 1).astype(float)
        # The first of r right ones among t wrong ones, shuffled.
        return self.better + (self.tied + self.right_tied + 1) / (self.right_tied + 1)

    def hits(self, k: int, ties: Ties = "pessimistic") -> np.ndarray:
        """Return whether each query's best right candidate is among the first `k`, or how probable that is."""
        if ties == "pessimistic":
            return (self.better + self.tied < k).astype(float)
        missed = np.ones(len(self.better))
        for place in range(k):  # All places up to k that the equal ones take hold wrong ones.
            wrong_left = self.tied - place
            share = np.maximum(wrong_left, 0) / np.maximum(wrong_left + self.right_tied, 1)
            missed *= np.where(place < k - self.better, share, 1)
        return np.where(self.better < k, 1 - missed, 0.0)


def place(blocks: Iterable[np.ndarray], right: RightPairs, same: float = 0.0) -> Places:
    """Find where the best right candidate of each query stands.

    Args:
        blocks: scores of some queries at a time for all candidates, `(rows, candidates)`, in the order of the queries.
        right: the right pairs.
        same: tolerance within which scores are equal.

    Raises:
        UserError: a score is NaN, which has no place.
    """
    firsts = np.append(right.firsts, len(right.queries))
    start, found = 0, []
    for block in blocks:
        begin, end = firsts[start], firsts[start + len(block)]
        rows, columns = right.queries[begin:end] - start, right.candidates[begin:end]
        scores = block[rows, columns]
        first = firsts[start : start + len(block)] - begin
        best = np.maximum.reduceat(scores, first)
        if np.isnan(block).any():
            raise UserError(f"Scores of query {start + int(np.isnan(block).any(axis=1).argmax())} are NaN.")
        higher = np.count_nonzero(block > (best + same)[:, None], axis=1)
        no_lower = np.count_nonzero(block >= (best - same)[:, None], axis=1)
        right_tied = np.add.reduceat((scores >= (best - same)[rows]).astype(np.int64), first)
        found.append((higher, no_lower - higher - right_tied, right_tied))
        start += len(block)
    better, tied, right_tied = (np.concatenate(part) for part in zip(*found, strict=True))
    return Places(better, tied, right_tied)

"""Recalls and ranks of one direction of retrieval, with intervals by the bootstrap over queries."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from evlvideo.metrics.bootstrap import interval
from evlvideo.metrics.retrieval.ranks import Places, Ties

RECALLS = (1, 5, 10)
RESAMPLES = 2_000
_ROWS = 256
"""Resamples in memory at a time."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A number, with the interval of 95 % that the bootstrap over queries gives."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class DirectionScores:
    """Scores of one direction, from images to texts or back. Recalls are fractions: 0.74 prints as 74.0."""

    recalls: dict[int, Measure]
    """K → share of queries with a right candidate among the first K."""
    median_rank: Measure
    """Median of the ranks, which begin at 1."""
    mean_rank: Measure
    """Mean of the ranks."""
    queries: int
    candidates: int


def direction_scores(places: Places, candidates: int, *, ties: Ties = "pessimistic", seed: int = 0) -> DirectionScores:
    """Score one direction.

    Args:
        places: of the queries, at least one.
        candidates: how many each query had.
        ties: see :mod:`evlvideo.metrics.retrieval.ranks`.
        seed: seeds the resamples.
    """
    ranks = places.ranks(ties)
    per_query = np.stack([ranks, *(places.hits(k, ties) for k in RECALLS)], axis=1)
    # Many queries are alike, so what is resampled is how often each kind occurs. Sorted by rank, for the median.
    kinds, counts = np.unique(per_query, axis=0, return_counts=True)
    whole = _summary(counts[None], kinds)[0]
    generator = np.random.default_rng(seed)
    resampled = np.concatenate(
        [
            _summary(generator.multinomial(len(ranks), counts / len(ranks), size=min(_ROWS, RESAMPLES - start)), kinds)
            for start in range(0, RESAMPLES, _ROWS)
        ]
    )
    median, mean, *recalls = (
        Measure(float(value), *interval(samples)) for value, samples in zip(whole, resampled.T, strict=True)
    )
    return DirectionScores(dict(zip(RECALLS, recalls, strict=True)), median, mean, len(ranks), candidates)


def mean_recall(directions: Iterable[DirectionScores]) -> float:
    """Return the mean of all recalls, by which BLIP and ALBEF choose checkpoints (`r_mean`)."""
    return float(np.mean([recall.value for scores in directions for recall in scores.recalls.values()]))


def _summary(counts: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Return median rank, mean rank and recalls of resamples, `(resamples, 2 + recalls)`.

    Args:
        counts: how many queries of each kind there are, `(resamples, kinds)`.
        kinds: rank and hits of each kind, by rising rank, `(kinds, 1 + recalls)`.
    """
    queries = counts[0].sum()
    reached = counts.cumsum(axis=1)
    lower, upper = ((reached > index).argmax(axis=1) for index in ((queries - 1) // 2, queries // 2))
    median = (kinds[lower, 0] + kinds[upper, 0]) / 2
    return np.column_stack([median, counts @ kinds / queries])

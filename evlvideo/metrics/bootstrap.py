"""Certainty of corpus scores: intervals by the bootstrap, tests by approximate randomization.

A corpus score is a function of sums over clips: of the clips' scores if it is their mean, of n-gram counts and lengths
if it is BLEU. So a resample is a vector of weights of the clips, and all resamples of all systems are one matrix
product.

**Intervals** are percentiles of scores on clips sampled with replacement, as many as there are (Efron, Annals of
Statistics 1979; for BLEU, Koehn, EMNLP 2004). All systems share the resamples, so that intervals of differences are
paired: clips that are hard for both systems do not widen them.

**Tests** are two-sided approximate randomization (Noreen, 1989): the captions of two systems are exchanged on every
clip with probability one half. The p-value is the share of exchanges whose difference is at least the observed one,
which counts as one of them. The null hypothesis is that it makes no difference which system wrote a caption. Bootstrap
tests call differences significant too often (Riezler and Maxwell, ACL workshop on evaluation measures 2005).

With many clips whose values are few, as hundreds of thousands of questions have, equal clips are drawn together: how
often they occur in a resample is multinomial, and how many of them are exchanged is binomial.

Means over training seeds are tested by exchanging the captions of all seeds on a clip: those of each seed of one system
for those of a seed of the other, in order. If the numbers of seeds differ, the seeds of both are repeated up to the
least common multiple, so that each has the same weight and the tested difference is that of the means.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from evlvideo.metrics.sentence_scores import SMALL, TINY

RESAMPLES = 10_000
"""Resamples for intervals, and exchanges for tests."""
LEVEL = 0.95
"""Share of the resamples inside an interval."""

_ROWS = 256
"""Resamples in memory at a time; fewer with many clips."""
_WEIGHTS = 2**22
"""Upper bound of weights in memory at a time: 100 MB with intermediate arrays."""
_MANY = 20_000
"""Clips from which on equal ones are drawn together."""
_ALIKE = 16
"""They are if there are this many times as many clips as different ones."""
_SAME = 1e-12
"""Differences this close are equal up to the order of summation."""
_ORDERS = 4


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the corpus score of one system is computed from."""

    per_clip: np.ndarray
    """`(clips, K)`, summed over clips."""
    score: Callable[[np.ndarray], np.ndarray]
    """Turns sums over clips, `(…, K)`, into scores, `(…)`."""
    parts: tuple["Statistics", ...] = ()
    """The averaged systems, if the score is a mean over several."""

    @property
    def value(self) -> float:
        """Return the score over all clips."""
        return float(self.score(self.per_clip.sum(axis=0)))


def mean_statistics(scores: Sequence[float]) -> Statistics:
    """Return statistics of a score that is the mean of its clips' scores."""
    return Statistics(np.asarray(scores, float)[:, None], partial(_mean, clips=len(scores)))


def bleu_statistics(counts: np.ndarray) -> Statistics:
    """Return statistics of BLEU-4, which is not the mean of its clips' scores.

    Args:
        counts: counts of each clip, by :func:`evlvideo.metrics.bleu_counts.bleu_counts`.
    """
    return Statistics(counts.astype(float), _bleu)


def averaged(parts: Sequence[Statistics]) -> Statistics:
    """Return statistics of the mean score of several systems, such as one model trained with several seeds.

    Args:
        parts: statistics of the same clips in the same order.
    """
    if len(parts) == 1:
        return parts[0]
    kept = tuple(parts)
    return Statistics(np.hstack([part.per_clip for part in kept]), partial(_average, parts=kept), kept)


def bootstrap(systems: Sequence[Statistics], resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Score systems on clips sampled with replacement, the same resamples for all.

    Args:
        systems: statistics of the same clips in the same order.
        resamples: number of resamples.
        seed: seeds the resamples.

    Returns:
        `(systems, resamples)`.
    """
    columns, counts = _joined(np.hstack([system.per_clip for system in systems]))
    clips = len(columns)

    def resampled(rows: int, generator: np.random.Generator) -> np.ndarray:
        if counts is not None:
            return generator.multinomial(counts.sum(), counts / counts.sum(), size=rows)
        chosen = generator.integers(clips, size=(rows, clips)) + clips * np.arange(rows)[:, None]
        return np.bincount(chosen.ravel(), minlength=rows * clips).reshape(rows, clips)

    sums = _sums(columns, resampled, resamples, seed)
    ends = np.cumsum([system.per_clip.shape[1] for system in systems])[:-1]
    return np.stack([system.score(part) for system, part in zip(systems, np.split(sums, ends, axis=1), strict=True)])


def interval(samples: np.ndarray) -> tuple[float, float]:
    """Return the percentiles that enclose :data:`LEVEL` of the samples."""
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def mean_interval(scores: Sequence[float], resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float]:
    """Return the interval of a mean, for hundreds of thousands of scores with few different values.

    How often each value occurs in a resample is multinomial, so that scores need not be drawn one by one.

    Args:
        scores: score of each clip or question.
        resamples: number of resamples.
        seed: seeds the resamples.
    """
    values, counts = np.unique(np.asarray(scores, float), return_counts=True)
    generator = np.random.default_rng(seed)
    drawn = generator.multinomial(len(scores), counts / len(scores), size=resamples)
    return interval(drawn @ values / len(scores))


def randomization_p_values(
    pairs: Sequence[tuple[Statistics, Statistics]], shuffles: int = RESAMPLES, seed: int = 0
) -> list[float]:
    """Test pairs of systems for a difference, two-sided; the same clips are exchanged in all pairs.

    Identical systems, and all systems on a single clip, have p = 1.

    Args:
        pairs: statistics of the same clips in the same order, and of the same score. Averages of a pair may be of
            different numbers of systems.
        shuffles: number of exchanges; the lower bound of a p-value is `1 / (shuffles + 1)`.
        seed: seeds the exchanges.
    """
    if not pairs:
        return []
    pairs = [_with_as_many_parts(first, second) for first, second in pairs]
    moved, counts = _joined(np.hstack([second.per_clip - first.per_clip for first, second in pairs]))
    clips = len(moved)

    def exchanged(rows: int, generator: np.random.Generator) -> np.ndarray:
        if counts is not None:
            return generator.binomial(counts, 0.5, size=(rows, clips))
        return np.unpackbits(generator.integers(256, size=(rows, -(-clips // 8)), dtype=np.uint8), axis=1)[:, :clips]

    sums = _sums(moved, exchanged, shuffles, seed)
    ends = np.cumsum([first.per_clip.shape[1] for first, _ in pairs])[:-1]
    return [
        _p_value(first, second, part) for (first, second), part in zip(pairs, np.split(sums, ends, axis=1), strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several tests, to control the probability of any false positive.

    Source: Holm, Scandinavian Journal of Statistics 1979: the step-down form of Bonferroni's correction, which does not
    need independent tests.

    Args:
        p_values: p-values of tests that are read together.

    Returns:
        adjusted p-values in the same order, at most 1.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _with_as_many_parts(first: Statistics, second: Statistics) -> tuple[Statistics, Statistics]:
    """Repeat the parts of averages up to their least common multiple, which leaves the scores as they are."""
    of_first, of_second = first.parts or (first,), second.parts or (second,)
    if len(of_first) == len(of_second):
        return first, second
    count = math.lcm(len(of_first), len(of_second))
    return averaged(of_first * (count // len(of_first))), averaged(of_second * (count // len(of_second)))


def _p_value(first: Statistics, second: Statistics, moved: np.ndarray) -> float:
    of_first, of_second = first.per_clip.sum(axis=0) + moved, second.per_clip.sum(axis=0) - moved
    differences = np.abs(first.score(of_first) - second.score(of_second))
    as_large = np.count_nonzero(differences >= abs(first.value - second.value) - _SAME)
    return float((as_large + 1) / (len(moved) + 1))


def _joined(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Join equal clips if there are many: their rows and numbers. Otherwise, the rows as they are and None."""
    if len(columns) < _MANY:
        return columns, None
    rows, counts = np.unique(columns, axis=0, return_counts=True)
    return (rows, counts) if len(rows) * _ALIKE <= len(columns) else (columns, None)


def _sums(
    columns: np.ndarray, weights: Callable[[int, np.random.Generator], np.ndarray], resamples: int, seed: int
) -> np.ndarray:
    """Return weighted sums of columns over clips, `(resamples, K)`, some rows at a time."""
    generator = np.random.default_rng(seed)
    rows = max(1, min(_ROWS, _WEIGHTS // len(columns)))
    parts = [
        weights(min(rows, resamples - start), generator).astype(float) @ columns for start in range(0, resamples, rows)
    ]
    return np.concatenate(parts)


def _mean(sums: np.ndarray, clips: int) -> np.ndarray:
    mean: np.ndarray = sums[..., 0] / clips
    return mean


def _average(sums: np.ndarray, parts: Sequence[Statistics]) -> np.ndarray:
    ends = np.cumsum([part.per_clip.shape[1] for part in parts])[:-1]
    scores = [part.score(of_part) for part, of_part in zip(parts, np.split(sums, ends, axis=-1), strict=True)]
    mean: np.ndarray = np.mean(scores, axis=0)
    return mean


def _bleu(sums: np.ndarray) -> np.ndarray:
    """Compute BLEU-4 from sums over clips, with pycocoevalcap's smoothing."""
    correct, guessed = sums[..., :_ORDERS], sums[..., _ORDERS : 2 * _ORDERS]
    words, closest = sums[..., -2], sums[..., -1]
    precision = ((correct + TINY) / (guessed + SMALL)).prod(axis=-1) ** (1 / _ORDERS)
    ratio = (words + TINY) / (closest + SMALL)
    scores: np.ndarray = precision * np.exp(np.minimum(0, 1 - 1 / ratio))
    return scores

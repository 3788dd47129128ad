"""How certain scores over clips are: intervals by the bootstrap, tests by approximate randomisation.

A corpus score is a function of sums over clips: of the clips' scores where it is their mean, of n-gram counts and
lengths where it is BLEU. So each resample is a vector of weights of the clips, and all resamples of all systems are one
product of matrices.

**Intervals** are percentiles of scores on clips drawn with replacement, as many as there are (Efron, Annals of
Statistics 1979; for BLEU, Koehn, EMNLP 2004). All systems are scored on the same draws, so that the interval of a
difference is that of pairs: what makes a clip hard for both does not widen it.

**Tests** are two-sided approximate randomisation (Noreen, 1989): captions of two systems are exchanged on every clip
with probability one half, and the p-value is the share of such exchanges whose difference is at least the one found,
which counts as one of them. It is taken and not the bootstrap's share of draws with the other sign, since it tests the
hypothesis that is asked about, that it makes no difference which system wrote a caption, and since the bootstrap calls
differences significant too often (Riezler and Maxwell, ACL workshop on evaluation measures 2005).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from evlvideo.metrics.sentence_scores import SMALL, TINY

RESAMPLES = 10_000
"""Draws for intervals, and exchanges for tests."""
LEVEL = 0.95
"""Share of the draws that is inside an interval."""

_ROWS = 256
"""Resamples that are in memory at a time, fewer of many clips."""
_WEIGHTS = 2**22
"""Most weights of clips that are in memory at a time: 100 MB with what they are made of."""
_SAME = 1e-12
"""Differences that are this close are the same: sums in another order."""
_ORDERS = 4


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the corpus score of one system is computed from."""

    per_clip: np.ndarray
    """`(clips, K)`, of which sums over clips are taken."""
    score: Callable[[np.ndarray], np.ndarray]
    """Sums over clips, `(…, K)`, to scores, `(…)`."""

    @property
    def value(self) -> float:
        """The score over all clips."""
        return float(self.score(self.per_clip.sum(axis=0)))


def mean_statistics(scores: Sequence[float]) -> Statistics:
    """Statistics of a score that is the mean of its clips' scores."""
    return Statistics(np.asarray(scores, float)[:, None], partial(_mean, clips=len(scores)))


def bleu_statistics(counts: np.ndarray) -> Statistics:
    """Statistics of BLEU-4, which is no mean of its clips' scores.

    Args:
        counts: of each clip, of :func:`evlvideo.metrics.bleu_counts.bleu_counts`.
    """
    return Statistics(counts.astype(float), _bleu)


def averaged(parts: Sequence[Statistics]) -> Statistics:
    """Statistics of the mean of several systems' scores, such as of one model trained with several seeds.

    Args:
        parts: of the same clips in the same order.
    """
    if len(parts) == 1:
        return parts[0]
    return Statistics(np.hstack([part.per_clip for part in parts]), partial(_average, parts=tuple(parts)))


def bootstrap(systems: Sequence[Statistics], resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Score systems on clips drawn with replacement, the same draws for all.

    Args:
        systems: of the same clips in the same order.
        resamples: number of draws.
        seed: of the draws.

    Returns:
        `(systems, resamples)`.
    """
    columns = np.hstack([system.per_clip for system in systems])
    clips = len(columns)

    def drawn(rows: int, generator: np.random.Generator) -> np.ndarray:
        chosen = generator.integers(clips, size=(rows, clips)) + clips * np.arange(rows)[:, None]
        return np.bincount(chosen.ravel(), minlength=rows * clips).reshape(rows, clips)

    sums = _sums(columns, drawn, resamples, seed)
    ends = np.cumsum([system.per_clip.shape[1] for system in systems])[:-1]
    return np.stack([system.score(part) for system, part in zip(systems, np.split(sums, ends, axis=1), strict=True)])


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The percentiles between which :data:`LEVEL` of the samples are."""
    low, high = np.quantile(samples, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def randomization_p_values(
    pairs: Sequence[tuple[Statistics, Statistics]], shuffles: int = RESAMPLES, seed: int = 0
) -> list[float]:
    """Test pairs of systems for a difference, two-sided; the same clips are exchanged in all pairs.

    Identical systems, and all systems on a single clip, have p = 1.

    Args:
        pairs: of the same clips in the same order, and of the same score.
        shuffles: number of exchanges; no p-value is smaller than `1 / (shuffles + 1)`.
        seed: of the exchanges.
    """
    if not pairs:
        return []
    moved = np.hstack([second.per_clip - first.per_clip for first, second in pairs])
    clips = len(moved)

    def exchanged(rows: int, generator: np.random.Generator) -> np.ndarray:
        return np.unpackbits(generator.integers(256, size=(rows, -(-clips // 8)), dtype=np.uint8), axis=1)[:, :clips]

    sums = _sums(moved, exchanged, shuffles, seed)
    ends = np.cumsum([first.per_clip.shape[1] for first, _ in pairs])[:-1]
    return [
        _p_value(first, second, part) for (first, second), part in zip(pairs, np.split(sums, ends, axis=1), strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for being several: what is below a level then is, with that probability of any false find.

    Source: Holm, Scandinavian Journal of Statistics 1979, the step-down form of Bonferroni's correction, which needs no
    independence of the tests.

    Args:
        p_values: of tests that are looked at together.

    Returns:
        adjusted p-values in the same order, 1 at most.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _p_value(first: Statistics, second: Statistics, moved: np.ndarray) -> float:
    of_first, of_second = first.per_clip.sum(axis=0) + moved, second.per_clip.sum(axis=0) - moved
    differences = np.abs(first.score(of_first) - second.score(of_second))
    as_large = np.count_nonzero(differences >= abs(first.value - second.value) - _SAME)
    return float((as_large + 1) / (len(moved) + 1))


def _sums(
    columns: np.ndarray, weights: Callable[[int, np.random.Generator], np.ndarray], resamples: int, seed: int
) -> np.ndarray:
    """Weighted sums of columns over clips, `(resamples, K)`, some rows at a time."""
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
    """BLEU-4 from sums over clips, with pycocoevalcap's smoothing."""
    correct, guessed = sums[..., :_ORDERS], sums[..., _ORDERS : 2 * _ORDERS]
    words, closest = sums[..., -2], sums[..., -1]
    precision = ((correct + TINY) / (guessed + SMALL)).prod(axis=-1) ** (1 / _ORDERS)
    ratio = (words + TINY) / (closest + SMALL)
    scores: np.ndarray = precision * np.exp(np.minimum(0, 1 - 1 / ratio))
    return scores

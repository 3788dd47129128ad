"""BLEU-4 and ROUGE-L of one caption against the references of its clip, as pycocoevalcap scores a clip.

Texts are lists of words. References are prepared once.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

Words = Sequence[str]

TINY, SMALL = 1e-15, 1e-9
"""pycocoevalcap's smoothing, added to numerators and to denominators."""
_BETA = 1.2
"""Weight of recall in ROUGE-L."""
_MAX_N = 4


class BleuCounts(NamedTuple):
    """What BLEU-4 of a caption is computed from. A corpus has the sums."""

    correct: list[int]
    """For n = 1…4, n-grams that match, clipped to the highest count in a reference."""
    guessed: list[int]
    """For n = 1…4, n-grams of the caption."""
    words: int
    """Words of the caption."""
    closest: int
    """Closest length of a reference, the shorter in a tie."""


@dataclass(frozen=True)
class BleuReferences:
    """The references of a clip, for BLEU-4 (Papineni et al., ACL 2002)."""

    most: dict[tuple[str, ...], int]
    """N-gram → its highest count in a reference."""
    lengths: list[int]
    """Words of each reference."""

    @classmethod
    def of(cls, references: Sequence[Words]) -> "BleuReferences":
        """Count the n-grams of references."""
        most: Counter[tuple[str, ...]] = Counter()
        for words in references:
            most |= Counter(ngrams(words))
        return cls(dict(most), [len(words) for words in references])

    def count(self, words: Words) -> BleuCounts:
        """Count the n-grams of a caption."""
        correct = [0] * _MAX_N
        for ngram, count in Counter(ngrams(words)).items():
            correct[len(ngram) - 1] += min(count, self.most.get(ngram, 0))
        _, closest = min((abs(length - len(words)), length) for length in self.lengths)
        return BleuCounts(correct, [max(0, len(words) - order) for order in range(_MAX_N)], len(words), closest)

    def score(self, words: Words) -> float:
        """Return smoothed BLEU-4 of a caption, with the closest reference length; 0 without words."""
        if not words:
            return 0.0
        counts = self.count(words)
        precision = 1.0
        for hits, guessed in zip(counts.correct, counts.guessed, strict=True):
            precision *= (hits + TINY) / (guessed + SMALL)
        ratio = (counts.words + TINY) / (counts.closest + SMALL)
        return float(precision ** (1 / _MAX_N) * (math.exp(1 - 1 / ratio) if ratio < 1 else 1.0))


@dataclass(frozen=True)
class RougeReferences:
    """The references of a clip, for ROUGE-L (Lin, 2004)."""

    positions: list[dict[str, int]]
    """For each reference, word → its positions, as bits."""
    lengths: list[int]
    """Words of each reference."""

    @classmethod
    def of(cls, references: Sequence[Words]) -> "RougeReferences":
        """Record the positions of each word."""
        positions: list[dict[str, int]] = []
        for words in references:
            bits: dict[str, int] = {}
            for position, word in enumerate(words):
                bits[word] = bits.get(word, 0) | 1 << position
            positions.append(bits)
        return cls(positions, [len(words) for words in references])

    def score(self, words: Words) -> float:
        """Return ROUGE-L of a caption, from its best precision and its best recall; 0 without words."""
        if not words:
            return 0.0
        precision = recall = 0.0
        for bits, length in zip(self.positions, self.lengths, strict=True):
            common = _longest_common(words, bits, length)
            precision = max(precision, common / len(words))
            recall = max(recall, common / max(length, 1))
        if precision == 0:
            return 0.0
        return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _longest_common(words: Words, positions: dict[str, int], length: int) -> int:
    """Return the length of the longest common subsequence, with each row of the table in the bits of an integer.

    Source: Hyyrö, Bit-parallel LCS-length computation revisited, AWOCA 2004.
    """
    full = (1 << length) - 1
    row = full
    for word in words:
        matches = row & positions.get(word, 0)
        row = (row + matches | row - matches) & full
    return length - row.bit_count()


def ngrams(words: Words) -> list[tuple[str, ...]]:
    """Return the n-grams of a text for n = 1…4."""
    return [tuple(words[i : i + n]) for n in range(1, _MAX_N + 1) for i in range(len(words) - n + 1)]

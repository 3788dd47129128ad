"""On how many clips each system scores higher than another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

PerClip: TypeAlias = Mapping[str, float]
"""Clip → score of one system."""


@dataclass(frozen=True, slots=True)
class Wins:
    """Counts of clips on which one system scores higher than another. Clips without a score do not count."""

    against: tuple[tuple[int, ...], ...]
    """Clips on which the row system is above the column system."""
    compared: tuple[tuple[int, ...], ...]
    """Clips on which both have a score."""
    alone: tuple[int, ...]
    """Clips on which a system is above all others that were scored there."""
    clips: int
    """Clips on which at least two systems have a score."""

    @property
    def ties(self) -> int:
        """Clips on which several systems share the highest score."""
        return self.clips - sum(self.alone)


def count_wins(scores: Sequence[PerClip]) -> Wins:
    """Compare systems clip by clip; scores that agree to nine digits are a tie.

    Args:
        scores: for each system, clip → score.
    """
    count = len(scores)
    against = [[0] * count for _ in range(count)]
    compared = [[0] * count for _ in range(count)]
    alone, clips = [0] * count, 0
    for clip_id in set().union(*scores):
        there = [(system, rounded(of_clip[clip_id])) for system, of_clip in enumerate(scores) if clip_id in of_clip]
        for system, score in there:
            for other, other_score in there:
                compared[system][other] += system != other
                against[system][other] += score > other_score
        if len(there) > 1:
            clips += 1
            winner = sole_winner(there)
            if winner is not None:
                alone[winner] += 1
    return Wins(tuple(map(tuple, against)), tuple(map(tuple, compared)), tuple(alone), clips)


def sole_winner(scores: Sequence[tuple[int, float]]) -> int | None:
    """Return the system with the highest of several scores. `None` if it is shared."""
    highest = max(score for _, score in scores)
    holders = [system for system, score in scores if score == highest]
    return holders[0] if len(holders) == 1 and len(scores) > 1 else None


def rounded(score: float) -> float:
    """Round off the digits in which equal captions can differ by the order of a sum."""
    return round(score, 9)

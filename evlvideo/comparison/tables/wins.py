"""On how many clips each system scores higher than another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

PerClip: TypeAlias = Mapping[str, float]
"""One system's score by clip."""


@dataclass(frozen=True, slots=True)
class Wins:
    """On how many clips which system has the higher score. A clip without a score is not counted for or against."""

    against: tuple[tuple[int, ...], ...]
    """Row system above column system."""
    compared: tuple[tuple[int, ...], ...]
    """Clips on which both have a score."""
    alone: tuple[int, ...]
    """Clips on which a system is above every other one that was scored there."""
    clips: int
    """Clips on which at least two systems have a score."""

    @property
    def ties(self) -> int:
        """Clips on which several systems share the highest score."""
        return self.clips - sum(self.alone)


def count_wins(scores: Sequence[PerClip]) -> Wins:
    """Compare systems clip by clip; scores that agree to nine digits are a tie.

    Args:
        scores: score by clip, one mapping a system.
    """
    count = len(scores)
    against = [[0] * count for _ in range(count)]
    compared = [[0] * count for _ in range(count)]
    alone, clips = [0] * count, 0
    for clip_id in set().union(*scores):
        there = [(system, rounded(of_clip[clip_id])) for system, of_clip in enumerate(scores) if clip_id in of_clip]
        for system, score in there:
            for other, its_score in there:
                compared[system][other] += system != other
                against[system][other] += score > its_score
        if len(there) > 1:
            clips += 1
            winner = sole_winner(there)
            if winner is not None:
                alone[winner] += 1
    return Wins(tuple(map(tuple, against)), tuple(map(tuple, compared)), tuple(alone), clips)


def sole_winner(scores: Sequence[tuple[int, float]]) -> int | None:
    """Give the system whose score, of several, is above all others; `None` where the highest is shared."""
    highest = max(score for _, score in scores)
    holders = [system for system, score in scores if score == highest]
    return holders[0] if len(holders) == 1 and len(scores) > 1 else None


def rounded(score: float) -> float:
    """Cut off digits in which equal captions can differ by the order of a sum."""
    return round(score, 9)

"""How systems stand against each other clip by clip, and kind by kind, over all clips that were scored."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeAlias

from evlvideo.metrics.names import format_score

PerClip: TypeAlias = Mapping[str, float]
"""One system's score by clip."""


@dataclass(frozen=True, slots=True)
class KindScores:
    """Mean scores on the clips of one kind, one a system."""

    name: str
    clips: int
    means: tuple[float | None, ...]
    """Fractions; `None` where a system has no score on any clip of the kind."""
    best: tuple[bool, ...]
    """Values that print like the highest, where systems differ."""


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


def kind_scores(
    scores: Sequence[PerClip], kinds: Mapping[str, str], apart: AbstractSet[int] = frozenset()
) -> tuple[KindScores, ...]:
    """Average each system's scores over the clips of each kind.

    Args:
        scores: score by clip, one mapping a system.
        kinds: kind by clip; clips of none have an empty one and are left out.
        apart: places of systems that are shown but never the best, since they were scored otherwise.

    Returns:
        one entry a kind, by name.
    """
    members: dict[str, list[str]] = {}
    for clip_id, kind in kinds.items():
        if kind:
            members.setdefault(kind, []).append(clip_id)
    return tuple(_kind(name, members[name], scores, apart) for name in sorted(members))


def _kind(name: str, clip_ids: Sequence[str], scores: Sequence[PerClip], apart: AbstractSet[int]) -> KindScores:
    means = tuple(_mean([of_clip[clip_id] for clip_id in clip_ids if clip_id in of_clip]) for of_clip in scores)
    rivals = {system: mean for system, mean in enumerate(means) if mean is not None and system not in apart}
    shown = {system: format_score(mean) for system, mean in rivals.items()}
    highest = format_score(max(rivals.values())) if len(set(shown.values())) > 1 else None
    best = tuple(system in shown and shown[system] == highest for system in range(len(means)))
    return KindScores(name, len(clip_ids), means, best)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


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

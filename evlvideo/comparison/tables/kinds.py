"""Mean scores on each kind of clip."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from evlvideo.comparison.tables.wins import PerClip
from evlvideo.metrics.names import format_score


@dataclass(frozen=True, slots=True)
class KindScores:
    """Mean scores on the clips of one kind, one a system."""

    name: str
    clips: int
    means: tuple[float | None, ...]
    """Fractions; `None` where a system has no score on any clip of the kind."""
    best: tuple[bool, ...]
    """Values that print like the highest, where systems differ."""


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

"""Find the shots of a film."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from evlvideo.corpus.films.cuts import RATE, find_cuts_in_blocks, resolve
from evlvideo.corpus.films.thumbnails import Gap, Thumbnails, describe_film, thumbnails
from evlvideo.corpus.films.windows import Part
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media
from evlvideo.errors import UserError

LEAST_SECONDS = 1.0
"""Shortest shot. What is shorter belongs to a neighbor."""
MOST_SECONDS = 30.0
"""Longest shot that stays whole, as long as the longest clips of MSR-VTT."""


@dataclass(frozen=True, slots=True)
class Shots:
    """The shots of a film."""

    shots: list[Part]
    """In the order of time and without gaps, in whole milliseconds; none of an image."""
    broken: list[Gap]
    """Parts that cannot be decoded. They begin and end shots."""


def find_shots(
    media: Media,
    start: float | None = None,
    end: float | None = None,
    *,
    least_seconds: float = LEAST_SECONDS,
    most_seconds: float = MOST_SECONDS,
) -> Shots:
    """Find the shots of a film, of any length, in bounded memory.

    Args:
        media: a video file, or a member of a shard.
        start: start of a part of the film in seconds. If None, the start of the film.
        end: its end. If None, the end of the film.
        least_seconds: a shorter shot belongs to a neighbor.
        most_seconds: a longer shot is cut evenly.

    Raises:
        DecodeError: nothing of it can be decoded, or what cannot has taken too long.
        UserError: a shard is missing, or the longest shot is not at least twice the shortest.
    """
    if not 0 < 2 * least_seconds <= most_seconds < math.inf:
        raise UserError(
            f"Shots last {least_seconds:g} to {most_seconds:g} seconds; the longest must be at least twice the "
            "shortest."
        )
    facts = describe_film(media)
    first, last = facts.start_seconds, facts.start_seconds + facts.metadata.duration_seconds
    first, last = max(first, start or first), last if end is None else min(last, end)
    borders, broken = _borders(thumbnails(media, facts, first, last, RATE), least_seconds)
    if broken and len(broken) == 1 and (broken[0].start, broken[0].end) == (first, last):
        raise DecodeError(broken[0].reason)
    whole = _without_short([first, *borders, last], least_seconds) if last > first else []
    return Shots([part for shot in pairwise(whole) for part in _evenly(*shot, most_seconds)], broken)


def _borders(parts: Iterator[Thumbnails | Gap], least_seconds: float) -> tuple[list[float], list[Gap]]:
    """Return the times of all changes of shot, and the parts that are broken."""
    borders: list[float] = []
    broken: list[Gap] = []
    for is_gap, run in groupby(parts, lambda part: isinstance(part, Gap)):
        if is_gap:
            gaps = [part for part in run if isinstance(part, Gap)]
            broken.append(Gap(gaps[0].start, gaps[-1].end, gaps[0].reason))
            borders += [gaps[0].start, gaps[-1].end]
        else:
            borders += _cut_times((part for part in run if isinstance(part, Thumbnails)), least_seconds)
    return borders, broken


def _cut_times(run: Iterator[Thumbnails], least_seconds: float) -> list[float]:
    seconds: list[np.ndarray] = []

    def pictures() -> Iterator[np.ndarray]:
        for part in run:
            seconds.append(part.seconds)
            yield part.pictures

    cuts = list(find_cuts_in_blocks(pictures()))
    times = np.concatenate(seconds)
    return [float(times[cut.place]) for cut in resolve(cuts, math.ceil(least_seconds * RATE))]


def _without_short(borders: Sequence[float], least_seconds: float) -> list[float]:
    """Leave out borders that are too near to the one before, or to the last."""
    kept = [borders[0]]
    for border in borders[1:-1]:
        if border - kept[-1] >= least_seconds and borders[-1] - border >= least_seconds:
            kept.append(border)
    # Rounded down, so that the first frame of a shot is not before it.
    return [math.floor(border * 1000 + 1e-6) / 1000 for border in kept] + [round(borders[-1], 3)]


def _evenly(start: float, end: float, most_seconds: float) -> list[Part]:
    """Cut a shot into as few equal parts as are short enough."""
    count = math.ceil((end - start) / most_seconds)
    times = [round(start + (end - start) * place / count, 3) for place in range(count + 1)]
    return list(pairwise(times))

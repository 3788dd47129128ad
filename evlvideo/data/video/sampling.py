"""Which frames of a clip are looked at.

A sampler takes the number of frames in the clip, their rate per second, the number of frames wanted, and a generator,
and returns as many indices from 0 in ascending order. A clip with fewer frames than are wanted gives some repeatedly.
Without a generator, samplers that draw take what is in the middle of their range.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import torch

Sampler: TypeAlias = "Callable[[int, float, int, torch.Generator | None], list[int]]"


def uniform(frames_in_clip: int, rate: float, count: int, generator: torch.Generator | None = None) -> list[int]:
    """Take frames 0, V/n, 2V/n, … of a clip of V frames, rounded down, as published for EVLGen-video.

    Where V < n this repeats frames: 3 frames wanted as 4 are 0, 0, 1, 2. Draws nothing from the generator.

    Raises:
        ValueError: the clip has no frames, or none are wanted.
    """
    _check(frames_in_clip, count)
    return _spread(frames_in_clip, count)


def headtail(frames_in_clip: int, rate: float, count: int, generator: torch.Generator | None) -> list[int]:
    """Draw half of the frames from the first half of the clip and half from the second, without replacement.

    The second half gets the odd frame, both of the clip (its frames are V//2, …, V-1) and of the count. A half with
    fewer frames than are wanted from it gives all of them, repeated as in :func:`uniform`. A clip of one frame is both
    of its halves. Published for EVLGen-video's training.

    Raises:
        ValueError: the clip has no frames, or none are wanted.
    """
    _check(frames_in_clip, count)
    middle = frames_in_clip // 2
    head = _draw(max(middle, 1), count // 2, generator)
    tail = _draw(frames_in_clip - middle, count - count // 2, generator)
    return head + [middle + index for index in tail]


def segments(frames_in_clip: int, rate: float, count: int, generator: torch.Generator | None) -> list[int]:
    """Cut the clip into as many segments as frames are wanted, and draw one frame of each (TSN, arXiv 1608.00859).

    Segment k holds the frames from kV/n to (k+1)V/n, rounded down; an empty one gives the frame at its start.

    Raises:
        ValueError: the clip has no frames, or none are wanted.
    """
    _check(frames_in_clip, count)
    chosen = []
    for place in range(count):
        start, end = place * frames_in_clip // count, (place + 1) * frames_in_clip // count
        chosen.append(_one(start, max(end, start + 1), generator))
    return chosen


def segment_middles(
    frames_in_clip: int, rate: float, count: int, generator: torch.Generator | None = None
) -> list[int]:
    """Take the frame in the middle of each of :func:`segments`, as at its evaluation. Draws nothing."""
    return segments(frames_in_clip, rate, count, None)


def fps(frames_per_second: float) -> Sampler:
    """Take frames at a given rate: those nearest below times that are 1 / rate apart.

    They lie together at a random place in the clip, or in its middle. Where the clip is too short for them they are
    spread over it as in :func:`uniform`: to repeat its last frame would say that the movement stopped.

    Raises:
        ValueError: the rate is not above 0; and, of the sampler: the clip has no frames, or none are wanted.
    """
    if not frames_per_second > 0:
        raise ValueError(f"{frames_per_second} frames per second were asked; the rate must be above 0.")

    def at_rate(frames_in_clip: int, rate: float, count: int, generator: torch.Generator | None) -> list[int]:
        _check(frames_in_clip, count)
        step = rate / frames_per_second
        span = int((count - 1) * step) + 1
        if span > frames_in_clip or step < 1:
            return _spread(frames_in_clip, count)
        first = _one(0, frames_in_clip - span + 1, generator)
        return [first + int(place * step) for place in range(count)]

    return at_rate


def seconds(start: float, end: float) -> Sampler:
    """Spread frames over a part of the clip as :func:`uniform` does: those from `start` to before `end`, in seconds.

    A part that lies beyond the end of the clip gives its last frame. Frames are taken to be evenly apart; where they
    are not, give the times to :func:`evlvideo.data.video.decode.decode_frames`, which knows when each is shown.

    Raises:
        ValueError: the part is empty or begins before 0; and, of the sampler: the clip has no frames, or none are
            wanted.
    """
    if not 0 <= start < end:
        raise ValueError(f"Seconds {start} to {end} were asked; the first must be at least 0 and below the second.")

    def of_part(frames_in_clip: int, rate: float, count: int, generator: torch.Generator | None) -> list[int]:
        _check(frames_in_clip, count)
        # A frame is shown at its number over the rate; less a little, since 0.1 × 30 is above 3.
        first = min(math.ceil(start * rate - 1e-6), frames_in_clip - 1)
        last = min(max(math.ceil(end * rate - 1e-6), first + 1), frames_in_clip)
        return [first + index for index in _spread(last - first, count)]

    return of_part


SAMPLERS: dict[str, Sampler] = {
    "uniform": uniform,
    "headtail": headtail,
    "segments": segments,
    "segment_middles": segment_middles,
    "1fps": fps(1),
    "2fps": fps(2),
}
"""Samplers by the name that a config gives them."""


def _spread(frames: int, count: int) -> list[int]:
    return [index * frames // count for index in range(count)]


def _draw(frames: int, count: int, generator: torch.Generator | None) -> list[int]:
    """Draw `count` of `frames`, without replacement."""
    if frames < count or generator is None:
        return _spread(frames, count)
    import torch  # a config reads the names of the samplers without it

    drawn: list[int] = torch.randperm(frames, generator=generator)[:count].tolist()
    return sorted(drawn)


def _one(start: int, end: int, generator: torch.Generator | None) -> int:
    """Draw one from `start` to before `end`; without a generator, the middle."""
    if generator is None:
        return (start + end - 1) // 2
    import torch

    return int(torch.randint(start, end, (), generator=generator))


def _check(frames_in_clip: int, count: int) -> None:
    if frames_in_clip < 1 or count < 1:
        raise ValueError(f"{count} frames were asked of a clip of {frames_in_clip}; both must be at least 1.")

"""Choose which frames of a clip are decoded.

A sampler takes the number of frames in the clip, the time of each in seconds, the number of frames wanted, and a
generator. It returns that many indices from 0 in ascending order, and repeats some if the clip is too short. Without a
generator, random samplers take the middle of their range.

pytorchvideo computes none of these. Its `uniform_temporal_subsample` ends at the last frame: 4 of 8 frames are
0, 2, 4, 7, where EVLGen-video takes 0, 2, 4, 6. Its clip samplers choose seconds and not frames.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import torch

Sampler: TypeAlias = "Callable[[int, np.ndarray, int, torch.Generator | None], list[int]]"


def uniform(
    frames_in_clip: int, seconds: np.ndarray, count: int, generator: torch.Generator | None = None
) -> list[int]:
    """Take frames 0, V/n, 2V/n, … of a clip of V frames, rounded down, as published for EVLGen-video.

    If V < n, repeats frames: 4 of 3 frames are 0, 0, 1, 2. Ignores the generator.

    Raises:
        ValueError: the clip has no frames, or none are wanted.
    """
    _check(frames_in_clip, count)
    return _spread(frames_in_clip, count)


def headtail(frames_in_clip: int, seconds: np.ndarray, count: int, generator: torch.Generator | None) -> list[int]:
    """Sample half of the frames from the first half of the clip and half from the second, without replacement.

    The second half gets the odd frame, both of the clip (its frames are V//2, …, V-1) and of the count. If a half has
    too few frames, all are taken and repeated as in :func:`uniform`. Both halves of a clip of one frame are that frame.
    Published for training EVLGen-video.

    Raises:
        ValueError: the clip has no frames, or none are wanted.
    """
    _check(frames_in_clip, count)
    middle = frames_in_clip // 2
    head = _sample(max(middle, 1), count // 2, generator)
    tail = _sample(frames_in_clip - middle, count - count // 2, generator)
    return head + [middle + index for index in tail]


def segments(frames_in_clip: int, seconds: np.ndarray, count: int, generator: torch.Generator | None) -> list[int]:
    """Split the clip into as many segments as frames are wanted, and sample one frame of each (TSN, arXiv 1608.00859).

    Segment k has the frames from kV/n to (k+1)V/n, rounded down. From an empty one, take the frame at its start.

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
    frames_in_clip: int, seconds: np.ndarray, count: int, generator: torch.Generator | None = None
) -> list[int]:
    """Take the frame in the middle of each of :func:`segments`, as TSN does in evaluation. Ignores the generator."""
    return segments(frames_in_clip, seconds, count, None)


def fps(frames_per_second: float) -> Sampler:
    """Make a sampler of frames at a given rate: the last frame at or before times that are 1 / rate apart.

    They start at a random index, or are centred in the clip without a generator. If the clip is too short, or most of
    its frames are further apart, they are spread over it as in :func:`uniform`: repeating its last frame would show
    that the movement stopped. If the rate varies, a frame that stays long on the screen is repeated.

    Raises:
        ValueError: the rate is not above 0; the sampler raises it if the clip has no frames, or none are wanted.
    """
    if not frames_per_second > 0:
        raise ValueError(f"The rate is {frames_per_second} frames per second; it must be above 0.")

    def at_rate(frames_in_clip: int, seconds: np.ndarray, count: int, generator: torch.Generator | None) -> list[int]:
        _check(frames_in_clip, count)
        steps = sorted((seconds[1:] - seconds[:-1]).tolist())
        usual_step = steps[len(steps) // 2] if steps else 0.0
        tolerance = usual_step / 50  # Containers round times.
        latest_start = seconds[-1] + usual_step - (count - 1) / frames_per_second
        starts = int(seconds.searchsorted(latest_start - tolerance))
        if starts < 1 or usual_step * frames_per_second > 1.001:
            return _spread(frames_in_clip, count)
        middle = (seconds[0] + seconds[starts - 1]) / 2
        first = _one(0, starts, generator) if generator else int(seconds.searchsorted(middle + tolerance, "right")) - 1
        wanted = [seconds[first] + place / frames_per_second + tolerance for place in range(count)]
        return [int(index) - 1 for index in seconds.searchsorted(wanted, "right")]

    return at_rate


SAMPLERS: dict[str, Sampler] = {
    "uniform": uniform,
    "headtail": headtail,
    "segments": segments,
    "segment_middles": segment_middles,
    "1fps": fps(1),
    "2fps": fps(2),
}
"""Samplers by name in a config."""


def _spread(frames: int, count: int) -> list[int]:
    return [index * frames // count for index in range(count)]


def _sample(frames: int, count: int, generator: torch.Generator | None) -> list[int]:
    """Sample `count` of `frames`, without replacement."""
    if frames < count or generator is None:
        return _spread(frames, count)
    import torch  # Configs read the names of the samplers without it.

    sampled: list[int] = torch.randperm(frames, generator=generator)[:count].tolist()
    return sorted(sampled)


def _one(start: int, end: int, generator: torch.Generator | None) -> int:
    """Sample one index from `start` to `end` - 1; without a generator, take the middle."""
    if generator is None:
        return (start + end - 1) // 2
    import torch

    return int(torch.randint(start, end, (), generator=generator))


def _check(frames_in_clip: int, count: int) -> None:
    if frames_in_clip < 1 or count < 1:
        raise ValueError(f"{count} frames are wanted of a clip of {frames_in_clip}; both must be at least 1.")

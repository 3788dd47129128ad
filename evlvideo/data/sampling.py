"""Which frames of a clip are looked at.

A sampler takes the number of frames in the clip, the number of frames wanted, and a generator, and returns indices from
0 in ascending order. A clip with fewer frames than are wanted gives each of its frames about equally often.
"""

from collections.abc import Callable

import torch

Sampler = Callable[[int, int, torch.Generator], list[int]]


def uniform(frames_in_clip: int, count: int, generator: torch.Generator | None = None) -> list[int]:
    """Take frames 0, V/n, 2V/n, … of a clip of V frames, rounded down.

    Where V < n this repeats frames: 3 frames wanted as 4 are 0, 0, 1, 2. Draws nothing from the generator.

    Raises:
        ValueError: the clip has no frames, or none are wanted.
    """
    _check(frames_in_clip, count)
    return _spread(frames_in_clip, count)


def headtail(frames_in_clip: int, count: int, generator: torch.Generator) -> list[int]:
    """Draw half of the frames from the first half of the clip and half from the second, without replacement.

    The second half gets the odd frame, both of the clip (its frames are V//2, …, V-1) and of the count. A half with
    fewer frames than are wanted from it gives all of them, repeated as in :func:`uniform`. A clip of one frame is both
    of its halves.

    Raises:
        ValueError: the clip has no frames, or none are wanted.
    """
    _check(frames_in_clip, count)
    middle = frames_in_clip // 2
    head = _draw(max(middle, 1), count // 2, generator)
    tail = _draw(frames_in_clip - middle, count - count // 2, generator)
    return head + [middle + index for index in tail]


SAMPLERS: dict[str, Sampler] = {"uniform": uniform, "headtail": headtail}
"""Samplers by the name that a config gives them."""


def _spread(frames: int, count: int) -> list[int]:
    return [index * frames // count for index in range(count)]


def _draw(frames: int, count: int, generator: torch.Generator) -> list[int]:
    if frames < count:
        return _spread(frames, count)
    drawn: list[int] = torch.randperm(frames, generator=generator)[:count].tolist()
    return sorted(drawn)


def _check(frames_in_clip: int, count: int) -> None:
    if frames_in_clip < 1 or count < 1:
        raise ValueError(f"{count} frames were asked of a clip of {frames_in_clip}; both must be at least 1.")

"""Small pictures of a whole film at a constant rate, decoded a minute at a time.

Each part is a request of its own to the guarded decoder. A part that cannot be decoded is tried again in halves; the
smallest ones are given up, and the film goes on behind them.
"""

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media, size_of
from evlvideo.data.video.decode import FileFacts
from evlvideo.data.video.guarded import TIME_LIMIT_SECONDS, decode_frames_guarded, describe_guarded

SIDE = 16
"""Side of a picture in pixels."""
_PART_SECONDS, _LEAST_SECONDS = 64.0, 8.0
"""Length of a part at first, and when it is given up."""
_PART_WITHOUT_SEEKING_SECONDS = 3600.0
"""Where a part can only be decoded from the start of the film."""
_LIMIT_BY_LENGTH = 3.0
"""Seconds that a second of film may take to decode; one of 3840 × 2160 pixels takes about one."""
_BYTES_A_SECOND = 1_000_000
"""Slowest reading of a file that is waited for."""
MOST_WASTED_SECONDS = 600.0
"""Time spent on parts that cannot be decoded, after which the film is given up."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Thumbnails:
    """N pictures that follow each other at a constant rate."""

    seconds: np.ndarray
    """Since when the frame of each is shown, from the start of the file, float64 of shape (N,)."""
    pictures: np.ndarray
    """RGB values, uint8 of shape (N, SIDE, SIDE, 3)."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A part of a film that cannot be decoded."""

    start: float
    """Seconds from the start of the file."""
    end: float
    """Seconds from the start of the file."""
    reason: str


def describe_film(media: Media) -> FileFacts:
    """Index a film, however long it is.

    Raises:
        DecodeError: it is missing, or cannot be decoded.
        UserError: a shard is missing.
    """
    try:
        limit_seconds = TIME_LIMIT_SECONDS + size_of(media) / _BYTES_A_SECOND
    except OSError:
        limit_seconds = TIME_LIMIT_SECONDS  # The decoder says what is wrong with it.
    return describe_guarded(media, time_limit_seconds=limit_seconds)


def thumbnails(media: Media, facts: FileFacts, start: float, end: float, rate: float) -> Iterator[Thumbnails | Gap]:
    """Decode pictures of a film from one time to another; few are in memory at a time.

    Args:
        media: the film.
        facts: what :func:`describe_film` says of it.
        start: seconds from the start of the file.
        end: seconds from the start of the file.
        rate: pictures per second. Where a frame stays longer on the screen, it is repeated.

    Yields:
        parts in the order of time.

    Raises:
        DecodeError: the parts that cannot be decoded have taken too long.
    """
    length = _PART_SECONDS if facts.seekable else _PART_WITHOUT_SEEKING_SECONDS
    left_seconds = MOST_WASTED_SECONDS
    waiting = [(first, min(first + length, end)) for first in np.arange(start, end, length).tolist()]
    last: Thumbnails | None = None
    while waiting:
        part_start, part_end = waiting.pop(0)
        began = time.monotonic()
        try:
            last = _decoded(media, facts.seekable, part_start, part_end, rate, last)
            yield last
        except DecodeError as error:
            left_seconds -= time.monotonic() - began
            if left_seconds < 0:
                raise DecodeError(
                    f"{media} is given up at {part_start:.0f} s of {end:.0f} s: what cannot be decoded in it has "
                    f"taken {MOST_WASTED_SECONDS:g} s. {error}"
                ) from error
            if part_end - part_start <= _LEAST_SECONDS:
                last = None
                yield Gap(part_start, part_end, str(error))
            else:
                middle = (part_start + part_end) / 2
                waiting[:0] = [(part_start, middle), (middle, part_end)]


def _decoded(
    media: Media, seekable: bool, start: float, end: float, rate: float, last: Thumbnails | None
) -> Thumbnails:
    """Decode the pictures of a part; until its first frame, that of the part before is on the screen."""
    # Times that are the same whatever the part.
    moments = np.arange(math.ceil(start * rate), max(math.ceil(end * rate), math.ceil(start * rate) + 1)) / rate
    before = 0

    def choose(count: int, seconds: np.ndarray) -> list[int]:
        nonlocal before
        before = int(np.searchsorted(moments, seconds[0]))
        return np.clip(np.searchsorted(seconds, moments, side="right") - 1, 0, None).tolist()

    decoded = decode_frames_guarded(
        media,
        choose,
        SIDE,
        start_seconds=start,
        end_seconds=end,
        time_limit_seconds=max(TIME_LIMIT_SECONDS, _LIMIT_BY_LENGTH * (end - start if seekable else end)),
    )
    if last is not None and before:
        decoded.frames[:before], decoded.timestamps_seconds[:before] = last.pictures[-1], last.seconds[-1]
    return Thumbnails(decoded.timestamps_seconds, decoded.frames)

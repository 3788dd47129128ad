"""Cut a film's time into windows of equal length."""

import math

from evlvideo.errors import UserError

SHORTEST_SECONDS = 0.1
"""Lower bound of a window."""
_SLIVER = 0.25
"""Share of a window's length. If the last window would show less that is new, the one before it becomes longer."""

Part = tuple[float, float]
"""Start and end in seconds from the start of the file, half-open."""


def windows(start: float, end: float, length: float, overlap: float = 0.0) -> list[Part]:
    """Return windows over a film, or over a part of one.

    Args:
        start: start of the film in seconds.
        end: its end in seconds; at `start` or before, as of an image, there are no windows.
        length: seconds of a window. The last one may be shorter, or up to a quarter longer.
        overlap: seconds that a window shares with the next.

    Returns:
        windows in the order of time, in whole milliseconds; the first begins at `start`, the last ends at `end`.

    Raises:
        UserError: as :func:`check_windows`.
    """
    check_windows(length, overlap)
    if end <= start:
        return []
    start, length, overlap = (round(seconds, 3) for seconds in (start, length, overlap))
    step = length - overlap
    # Of the whole windows, and of what remains behind them.
    count = max(math.ceil((end - start - overlap - _SLIVER * length) / step), 1)
    starts = [round(start + step * number, 3) for number in range(count)]
    return [*((first, round(first + length, 3)) for first in starts[:-1]), (starts[-1], round(end, 3))]


def check_windows(length: float, overlap: float) -> None:
    """Check the length and overlap of windows in seconds.

    Raises:
        UserError: a window is too short, or does not end, or the overlap is below 0 or above half of a window.
    """
    if not SHORTEST_SECONDS <= length < math.inf:
        raise UserError(f"A window is {length:g} seconds long; it must be at least {SHORTEST_SECONDS:g}.")
    if not 0 <= overlap <= length / 2:
        raise UserError(
            f"Windows of {length:g} seconds overlap by {overlap:g}; they must overlap by 0 to {length / 2:g}, half of "
            "a window."
        )

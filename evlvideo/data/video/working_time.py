"""A time limit that counts the time for which this process works, and not the clock.

A job that is suspended, as clusters do to let another run, has not worked meanwhile. Linux counts that time in every
clock but those of the processor, which do not count waiting.
"""

import time

_TICK_SECONDS = 0.5
"""Longest wait at a time. If the clock shows much more afterwards, the process was suspended, or had no processor."""


class WorkingTime:
    """Seconds that may be waited, from now on.

    Args:
        seconds: the limit.
    """

    def __init__(self, seconds: float) -> None:
        self.limit_seconds = seconds
        self.left_seconds = seconds
        self._looked = time.monotonic()

    def next_wait(self) -> float:
        """Count the time since the last call, and return how many seconds to wait until the next.

        Raises:
            TimeoutError: no time is left.
        """
        now = time.monotonic()
        self.left_seconds -= min(now - self._looked, 2 * _TICK_SECONDS)
        self._looked = now
        if self.left_seconds <= 0:
            raise TimeoutError
        return min(self.left_seconds, _TICK_SECONDS)

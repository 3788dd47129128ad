"""Show how far a long command is: a bar on a terminal, and lines in logs."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Timer
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from evlvideo.processes import is_main

INTERVAL_SECONDS = 20.0
"""Seconds between two lines."""
_ANNOUNCED_SECONDS = 1.0
"""Work that takes longer is announced."""

Item = TypeVar("Item")

logger = logging.getLogger(__name__)
"""Its lines are left out where a bar is drawn; see :func:`evlvideo.terminal.prepare`."""


class Progress:
    """Counts items that are done. Draws a bar that disappears at the end, and logs a line about every 20 seconds.

    Use it as a context manager, or call :meth:`start` and :meth:`stop`.

    Args:
        title: what is done, as the bar and the lines begin.
        total: number of items.
        console: where to draw the bar. If None, or not a terminal, only lines are logged.
        unit: what an item is, in the plural.
        done: items that an earlier call has done.
    """

    def __init__(
        self, title: str, total: int, *, console: Console | None = None, unit: str = "clips", done: int = 0
    ) -> None:
        self.title, self.total, self.unit, self.done = title, total, unit, done
        self._console = console
        self._done_before = done
        self._started = self._last_line = 0.0
        self._said = False
        self._bar: Bar | None = None

    def start(self) -> None:
        """Draw the bar, and start the clock."""
        self._started = self._last_line = time.monotonic()
        self._done_before = self.done
        if self._console is not None and self._console.is_terminal:
            self._bar = _bar(self._console)
            self._bar.add_task(self.title, total=self.total, completed=self.done, rate="")
            self._bar.start()

    def advance(self, count: int = 1) -> None:
        """Count items that have been done since the last call."""
        self.update(self.done + count)

    def update(self, done: int) -> None:
        """Set the number of items that are done."""
        self.done = done
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=done, rate=self._rate(now))
        if now - self._last_line >= INTERVAL_SECONDS and is_main():
            self._last_line, self._said = now, True
            left = (self.total - done) * (now - self._started) / max(1, done - self._done_before)
            end = f", {spelled_seconds(left)} left" if done > self._done_before else ""
            rate = f", {self._rate(now)}" if done > self._done_before else ""
            logger.info("%s: %s of %s %s%s%s", self.title, f"{done:,}", f"{self.total:,}", self.unit, rate, end)

    def stop(self) -> None:
        """Remove the bar. Calling it again does nothing."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def track(self, batches: Iterable[Item], count: Callable[[Item], int] = lambda _: 1) -> Iterator[Item]:
        """Yield what makes progress, such as a finished batch, and count it.

        Args:
            batches: yields each one when it is done.
            count: returns the number of items in it.
        """
        for batch in batches:
            self.advance(count(batch))
            yield batch

    def _rate(self, now: float) -> str:
        rate = (self.done - self._done_before) / max(now - self._started, 1e-9)
        return f"{rate:.3g} {self.unit} a second" if rate >= 1 else f"{60 * rate:.3g} {self.unit} a minute"

    def __enter__(self) -> "Progress":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None and self._said:
            seconds = spelled_seconds(time.monotonic() - self._started)
            logger.info("%s: %s %s, in %s", self.title, f"{self.done:,}", self.unit, seconds)


def _bar(console: Console) -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def spelled_seconds(seconds: float) -> str:
    """Write a duration in the two largest units that it has: `48 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def timed(what: str, say: Callable[[str], object]) -> Iterator[list[str]]:
    """Say what is done and how long it took, and announce it if it takes longer than a second; in the main process.

    Args:
        what: names the work, such as `the clips of msrvtt:train`.
        say: takes each line, such as the `info` of a logger.

    Yields:
        a list, to which the block adds what to say of the outcome.
    """
    started, outcome = time.perf_counter(), list[str]()
    announcement = Timer(_ANNOUNCED_SECONDS, lambda: say(f"{what} …"))
    announcement.daemon = True
    if is_main():
        announcement.start()
    try:
        yield outcome
    finally:
        announcement.cancel()
    if is_main():
        say(f"{what}: {', '.join([*outcome, spelled_seconds(time.perf_counter() - started)])}")

"""Plan what of a film is captioned: its windows, its shots, or all of it at once."""

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

from evlvideo.corpus.films import cuts
from evlvideo.corpus.films.shots import LEAST_SECONDS, MOST_SECONDS
from evlvideo.corpus.films.shots_cache import cached_shots
from evlvideo.corpus.films.thumbnails import describe_film
from evlvideo.corpus.films.windows import Part, check_windows, windows
from evlvideo.corpus.rows import Row
from evlvideo.corpus.sources import media_of
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media
from evlvideo.errors import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FilmPlan:
    """What of each film is captioned. By default, all of it at once.

    Raises:
        UserError: windows and shots are both asked for, or an overlap of no windows; or as :func:`check_windows`.
    """

    windows: float | None = None
    """Seconds of a window."""
    overlap: float = 0.0
    """Seconds that a window shares with the next."""
    shots: bool = False
    """Whether shots are captioned, of :data:`LEAST_SECONDS` to :data:`MOST_SECONDS`."""

    def __post_init__(self) -> None:
        if self.windows is not None and self.shots:
            raise UserError("Both --windows and --shots are given; a film is cut into the ones or the others.")
        if self.overlap and self.windows is None:
            raise UserError(f"The overlap is {self.overlap:g} s, but there are no windows; add --windows SECONDS.")
        if self.windows is not None:
            check_windows(self.windows, self.overlap)

    @property
    def cuts_films(self) -> bool:
        """Whether films are cut into parts."""
        return self.shots or self.windows is not None

    @property
    def facts(self) -> dict[str, Any]:
        """What the rows of a job depend on beside its sources; empty if films are whole."""
        if self.shots:
            return {"films": {"shots": cuts.VERSION, "least": LEAST_SECONDS, "most": MOST_SECONDS}}
        return {"films": {"windows": self.windows, "overlap": self.overlap}} if self.cuts_films else {}


def film_rows(row: Row, plan: FilmPlan) -> list[Row]:
    """Return the parts of a film to caption, in the order of time.

    Their ids are the film's, with start and end in milliseconds: `ID@000012000-000022000`.

    Args:
        row: a film, a part of one, which is cut in the same way, or an image, which stays whole.
        plan: how to cut it.

    Returns:
        the parts; or the row itself if there are none, or if the film cannot be decoded, which its captioning tells.

    Raises:
        UserError: the decoder's helper does not start.
    """
    if not plan.cuts_films:
        return [row]
    try:
        parts = _parts(media_of(row.path), row, plan)
    except DecodeError as error:
        logger.warning("%s", error)
        return [row]
    named = [(f"{row.id}@{_milliseconds(start)}-{_milliseconds(end)}", start, end) for start, end in parts]
    return [Row(part_id, row.path, start, end) for part_id, start, end in named] or [row]


def rows_of_films(
    rows: Iterable[Row], plan: FilmPlan, processes: int = 0, advance: Callable[[], None] = lambda: None
) -> Iterator[Row]:
    """Yield the rows of all films as :func:`film_rows` gives them, in order.

    Args:
        rows: films.
        plan: how to cut them.
        processes: how many work on it, on a film each; with 0, this one does.
        advance: called after each film.
    """
    if not plan.cuts_films:
        yield from rows
        return
    work = partial(film_rows, plan=plan)
    with ExitStack() as held:
        each: Callable[..., Iterator[list[Row]]] = map
        if processes:
            # Processes that start anew, since a decoder hangs after a fork.
            each = held.enter_context(ProcessPoolExecutor(processes, mp_context=get_context("spawn"))).map
        for parts in each(work, rows):
            yield from parts
            advance()


def _parts(media: Media, row: Row, plan: FilmPlan) -> list[Part]:
    if plan.shots:
        found = cached_shots(media, row.start, row.end)
        for gap in found.broken:
            logger.warning("%s: %.0f to %.0f s have no shots: %s", row.path, gap.start, gap.end, gap.reason)
        return found.shots
    assert plan.windows is not None
    facts = describe_film(media)
    first, last = facts.start_seconds, facts.start_seconds + facts.metadata.duration_seconds
    start, end = max(first, row.start or first), min(last, row.end or last)
    return windows(start, end, plan.windows, plan.overlap)


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000):09d}"

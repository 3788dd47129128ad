"""Keep the shots of films on disk, so that a job that goes on decodes no film twice to find them.

An entry is a small JSON file in the user's cache. Its key is the path, size and times of the film, and all that its
shots depend on. Entries that cannot be read or written are ignored.
"""

import hashlib
import logging
from dataclasses import asdict
from pathlib import Path

import av

from evlvideo.cache import cache_directory
from evlvideo.corpus.films import cuts, thumbnails
from evlvideo.corpus.films.shots import LEAST_SECONDS, MOST_SECONDS, Shots, find_shots
from evlvideo.corpus.films.thumbnails import Gap
from evlvideo.data.media.media import Media, state_of
from evlvideo.errors import UserError
from evlvideo.files import read_json, write_json

logger = logging.getLogger(__name__)


def cached_shots(media: Media, start: float | None = None, end: float | None = None) -> Shots:
    """Load a film's shots from the cache, or find and keep them; see :func:`evlvideo.corpus.films.shots.find_shots`.

    Raises:
        DecodeError, UserError: as there.
    """
    entry = _entry_of(media, start, end)
    if entry is not None and (known := _load(entry)) is not None:
        return known
    found = find_shots(media, start, end)
    if entry is not None:
        try:
            write_json(entry, asdict(found))
        except UserError as error:
            logger.debug("%s", error)
    return found


def _entry_of(media: Media, start: float | None, end: float | None) -> Path | None:
    """Return the cache file of a film's shots, or None if the film cannot be read."""
    settings = (cuts.VERSION, cuts.RATE, thumbnails.SIDE, LEAST_SECONDS, MOST_SECONDS, av.__version__, start, end)
    try:
        key = repr((*settings, *state_of(media)))
    except (OSError, UserError):
        return None
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    return cache_directory() / "shots" / name[:2] / f"{name[2:]}.json"


def _load(entry: Path) -> Shots | None:
    try:
        known = read_json(entry)
        return Shots([(start, end) for start, end in known["shots"]], [Gap(**gap) for gap in known["broken"]])
    except (UserError, KeyError, TypeError, ValueError):
        return None

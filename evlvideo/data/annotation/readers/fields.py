"""Check the fields of an entry. Every error names the place of the entry."""

import os
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path
from typing import Any

from evlvideo.data.annotation.messages import shown, some
from evlvideo.errors import UserError
from evlvideo.files import inside

VIDEO_SUFFIXES = (".avi", ".mp4", ".webm", ".mkv", ".mov")
"""Suffixes of the videos of datasets whose copies differ in them."""
MOST = 2**63
"""Exclusive upper bound of integers, so that an int64 array can hold them."""


def needed(place: str, entry: dict[str, Any], key: str) -> Any:
    """Return a required value of an entry.

    Raises:
        UserError: it is missing.
    """
    if key not in entry:
        raise UserError(f"{place} has no {key!r}: {shown(entry)}; add it, or get the file again.")
    return entry[key]


def check_keys(place: str, entry: dict[str, Any], keys: Collection[str], splits: Collection[str]) -> None:
    """Check the keys of a line of one's own dataset, which names one video or image, and its split.

    Raises:
        UserError: a key is unknown, there is no file or two, or the split is none of those allowed.
    """
    unknown = [shown(key) for key in entry if key not in keys]
    if unknown:
        raise UserError(f"{place}: unknown keys {some(unknown)}; allowed: {', '.join(keys)}.")
    if len(entry.keys() & {"video", "image"}) != 1:
        raise UserError(f"{place} is {shown(entry)}; it needs either 'video' or 'image'.")
    split = needed(place, entry, "split")
    if split not in splits:
        raise UserError(f"{place}: the split is {shown(split)}; allowed: {', '.join(splits)}.")


def clip_name(place: str, value: Any, of: str = "clip") -> str:
    """Check the id of a clip or question; convert whole numbers to strings.

    Raises:
        UserError: it is neither a string nor a whole number, or is blank or not printable.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise UserError(f"{place}: the {of} id is {shown(value)}; ids are whole numbers or strings that can be shown.")
    return value


def one_caption(place: str, value: Any) -> str:
    """Check a caption.

    Raises:
        UserError: it is not a string, or blank.
    """
    if not isinstance(value, str):
        raise UserError(f"{place}: a caption is {shown(value)}; captions are strings.")
    if not value.strip():
        raise UserError(f"{place}: a caption is empty; write one, or remove the entry.")
    return value


def all_captions(place: str, value: Any) -> tuple[str, ...]:
    """Check the captions of an entry: a string, or a list of strings.

    Raises:
        UserError: there are none, or one is not a string or blank.
    """
    values = value if isinstance(value, list) else [value]
    if not values:
        raise UserError(f"{place} has no captions; every clip needs at least one.")
    return tuple(one_caption(place, text) for text in values)


def seconds(place: str, entry: dict[str, Any]) -> tuple[float | None, float | None]:
    """Read the optional `start_seconds` and `end_seconds` of an entry.

    Raises:
        UserError: they are not numbers from 0, or the end is not after the start.
    """
    times = entry.get("start_seconds"), entry.get("end_seconds")
    for time in times:
        if time is not None and (isinstance(time, bool) or not isinstance(time, int | float) or not 0 <= time < 1e9):
            raise UserError(f"{place}: a time is {shown(time)}; start_seconds and end_seconds are numbers from 0.")
    start, end = (None if time is None else float(time) for time in times)
    if end is not None and end <= (start or 0.0):
        raise UserError(f"{place}: the clip ends at {end:g} s, which is not after its start at {start or 0.0:g} s.")
    return start, end


def topic(place: str, entry: dict[str, Any]) -> int | None:
    """Read the optional `category` of an entry.

    Raises:
        UserError: it is not a whole number.
    """
    category = entry.get("category")
    if category is None:
        return None
    if isinstance(category, bool) or not isinstance(category, int) or not -MOST < category < MOST:
        raise UserError(f"{place}: the category is {shown(category)}; it is a whole number.")
    return category


def media_file(place: str, root: Path, name: Any) -> Path:
    """Join the name of a media file to its root.

    Raises:
        UserError: it is not a name, is absolute, or leads out of the root.
    """
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{place}: the file is {shown(name)}; name one, relative to {root}.")
    directory, last = os.path.split(name)
    try:
        if last in ("", ".", "..") or "\0" in last:
            return _confined(root, name)
        # Many files share a folder; checking it for each would take most of the time.
        return _confined(root, directory) / last
    except UserError as error:
        raise UserError(
            f"{place}: the file {shown(name)} lies outside {root}; names are relative to it and stay under it."
        ) from error


def video_of(place: str, root: Path, clip_id: str, suffix: str) -> Path:
    """Return the video of a clip that is named by its id: the file with the published suffix, or with another.

    Args:
        place: place of the entry.
        root: directory of the videos.
        clip_id: id of the clip.
        suffix: the published suffix, which is returned if there is no file.

    Raises:
        UserError: as :func:`media_file`.
    """
    file = media_file(place, root, clip_id + suffix)
    # Not with_suffix, since ids may hold dots.
    others = (file.with_name(file.name.removesuffix(suffix) + other) for other in VIDEO_SUFFIXES if other != suffix)
    return file if file.exists() else next((other for other in others if other.exists()), file)


@lru_cache(maxsize=4096)
def _confined(root: Path, name: str) -> Path:
    # `inside` compares names, which needs an absolute root: `..` is not visibly outside `.`.
    inside(root.absolute(), name)
    return Path(os.path.normpath(root / name))

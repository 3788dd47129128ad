"""Find clips whose file is missing, among millions, with few calls to the file system."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path

import numpy as np

from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.annotation.messages import some
from evlvideo.errors import form_of

_THREADS = 16
"""Network file systems answer many calls in the time of one."""
_LISTED_FROM = 16
"""Lower bound of wanted files at which a folder is listed; otherwise, files are looked up one by one."""
_MOST_LISTED = 8
"""Upper bound of entries listed for each wanted file."""
_AT_A_TIME = 4096


def missing_files(clips: ClipTable) -> list[int]:
    """Return the sorted indices of the clips whose file is missing.

    Each folder is listed once. Files that are not listed, or are links, are looked up one by one.
    """
    folders = clips.folder_numbers()
    by_folder = np.argsort(folders, kind="stable")
    firsts = np.flatnonzero(np.diff(folders[by_folder].astype(np.int64), prepend=-1))
    bounds = np.stack([firsts, np.append(firsts[1:], len(folders))[: len(firsts)]], axis=1)

    def missing_of(part: np.ndarray) -> list[int]:
        groups = (by_folder[first:end] for first, end in part.tolist())
        return [n for numbers in groups for n in _missing_in(clips, clips.folders[folders[numbers[0]]], numbers)]

    with ThreadPoolExecutor(_THREADS) as pool:
        # More parts than threads, since folders are of different sizes.
        return sorted(chain.from_iterable(pool.map(missing_of, np.array_split(bounds, 8 * _THREADS))))


def _missing_in(clips: ClipTable, folder: str, numbers: np.ndarray) -> Iterator[int]:
    listed = np.sort(_listed(folder, len(numbers)))
    for first in range(0, len(numbers), _AT_A_TIME):
        some = numbers[first : first + _AT_A_TIME].tolist()
        names = [clips.file_name(number) for number in some]
        keys = np.fromiter(map(hash, names), np.int64, len(names))
        there = np.searchsorted(listed, keys, "right") > np.searchsorted(listed, keys, "left")
        for number, name, is_there in zip(some, names, there.tolist(), strict=True):
            # os.path.exists, unlike Path.exists, accepts names that no file can have.
            if not is_there and not os.path.exists(os.path.join(folder, name)):  # noqa: PTH110, PTH118
                yield number


def _listed(folder: str, wanted: int) -> np.ndarray:
    """Return 64-bit hashes of the names in a folder; none if listing it is not worthwhile."""
    if wanted < _LISTED_FROM:
        return np.empty(0, np.int64)
    try:
        with os.scandir(folder or ".") as entries:
            # A link may lead nowhere.
            names = (hash(entry.name) for entry in islice(entries, _MOST_LISTED * wanted) if not entry.is_symlink())
            return np.fromiter(names, np.int64)
    except OSError:
        return np.empty(0, np.int64)


def some_missing(media: Path, names: Sequence[str]) -> str:
    """List the first few missing files, with the name on disk of one that differs only in form.

    Args:
        media: the media root.
        names: missing files, as paths under it.
    """
    return some([_with_name_on_disk(media, name) if place < 3 else name for place, name in enumerate(names)])


def _with_name_on_disk(media: Path, name: str) -> str:
    found: list[str] = []
    for part in name.replace("\\", "/").split("/"):
        folder = media.joinpath(*found)
        try:
            with os.scandir(folder) as entries:
                alike = (entry.name for entry in entries if form_of(entry.name) == form_of(part))
                found.append(part if part == ".." else next(alike))
        except (OSError, ValueError, StopIteration):
            return name
    # Forms of Unicode look alike, so the names are shown with escapes.
    return f"{name} (on disk {'/'.join(found)!a}, in the annotation {name!a})"

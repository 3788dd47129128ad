"""Splits of many clips, kept in the cache as they were read and checked, and shared by all processes of a machine.

Reading 10 million captions takes minutes, and looking for as many files on a network disk more. So it is done once: a
later start, and every other process of the same, maps the table from its file, which takes no time and no memory of its
own. A table is found by what it was made of: the annotation files with their sizes and times, and where the videos are.
What was deleted or cut short after that is met when it is decoded; `evlvideo data verify` looks at every file again.
"""

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from evlvideo.cache import cache_directory
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.annotation.facts import facts_of, media_root
from evlvideo.data.annotation.splits import read_split
from evlvideo.errors import UserError
from evlvideo.files import replacing

CACHED_FROM = 100_000
"""Clips of a split from which on it is kept. A smaller one is read in about a second."""

_FORMAT = 1
"""Grows when the same annotation gives another table."""

logger = logging.getLogger(__name__)


def read_cached_split(
    dataset: str, split: str, root: Path, video_root: Path | None = None, check_files: bool = True
) -> ClipTable:
    """Read a split as :func:`evlvideo.data.annotation.splits.read_split` does, or take what was kept of it.

    Args:
        dataset: a key of :data:`evlvideo.data.annotation.facts.DATASETS`.
        split: one of its splits for captioning.
        root: directory of the data set.
        video_root: directory of the video or image files; the data set's folder under `root` where none is named.
        check_files: whether every clip's file must be there, where nothing was kept. What was not checked is not kept.

    Raises:
        UserError: as there.
    """
    place = _place(dataset, split, root, video_root)
    with suppress(OSError, ValueError):
        return ClipTable.open(place)[0]
    clips = read_split(dataset, split, root, video_root, check_files)
    if not check_files or len(clips) < CACHED_FROM:
        return clips
    try:
        return _keep(clips, place)
    except (OSError, UserError) as error:
        logger.warning("%s:%s is read anew by every process and at every start: %s", dataset, split, error)
        return clips


def _keep(clips: ClipTable, place: Path) -> ClipTable:
    """Write a table, and give the file's; of the same split as it was before, nothing is left."""
    with replacing(place) as temporary:
        clips.save(temporary, {})
    for older in place.parent.glob("*.safetensors"):
        # A hidden one is what another process is just writing.
        if older.name != place.name and not older.name.startswith("."):
            older.unlink(missing_ok=True)
    return ClipTable.open(place)[0]


def _place(dataset: str, split: str, root: Path, video_root: Path | None) -> Path:
    """Tell where a split is kept: in a folder of the split, under a name of the state of its annotation.

    Raises:
        UserError: the annotation is missing.
    """
    facts = facts_of(dataset)
    media = media_root(facts, root, video_root)
    states = []
    if split in facts.clips():
        for file in facts.files(root, split):
            with suppress(OSError):
                status = file.stat()
                states.append((str(file), status.st_size, status.st_mtime_ns))
    # Paths as they were named are in the table, and mean another place in another working directory.
    named = [str(root), str(media), str(root.absolute()), str(media.absolute())]
    folder = cache_directory() / "clips" / f"{dataset}-{split}-{_digest(named)}"
    return folder / f"{_digest([_FORMAT, *states])}.safetensors"


def _digest(value: Sequence[object]) -> str:
    return hashlib.sha256(repr(value).encode("utf-8", "surrogateescape")).hexdigest()[:16]

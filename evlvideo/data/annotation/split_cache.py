"""Cache large splits on disk, read and checked, for all processes of a machine.

Reading 10 million captions takes minutes, and looking up as many files on a network disk takes longer. So it is done
once: later processes memory-map the table, which takes no time and shares memory. The key is the annotation files with
sizes and times, and the location of the videos. Videos deleted or truncated since then fail when they are decoded;
`evlvideo data verify` checks every file again.
"""

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from evlvideo.cache import cache_directory
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.annotation.facts import facts_of, media_root
from evlvideo.data.annotation.splits import CAPTIONING, read_split
from evlvideo.errors import UserError
from evlvideo.files import replacing

CACHED_FROM = 100_000
"""Lower bound of clips at which a split is cached. Smaller ones are read in about a second."""

_FORMAT = 1
"""Increase it if the same annotation gives another table."""

logger = logging.getLogger(__name__)


def read_cached_split(
    dataset: str,
    split: str,
    root: Path,
    video_root: Path | None = None,
    check_files: bool = True,
    *,
    check_counts: bool = True,
    purpose: str = CAPTIONING,
) -> ClipTable:
    """Read a split as :func:`evlvideo.data.annotation.splits.read_split` does, or load it from the cache.

    Args:
        dataset: a key of :data:`evlvideo.data.annotation.facts.DATASETS`.
        split: one of its splits.
        root: directory of the dataset.
        video_root: directory of the video or image files. Defaults to the dataset's folder under `root`.
        check_files: whether every clip's file must exist, if the split is not cached. Unchecked splits are not cached.
        check_counts: whether there must be as many clips and captions as the published dataset has.
        purpose: must be `retrieval` to read a retrieval split.

    Raises:
        UserError: as there.
    """
    place = _place(dataset, split, root, video_root, check_counts)
    with suppress(OSError, ValueError):
        return ClipTable.open(place)[0]
    clips = read_split(dataset, split, root, video_root, check_files, check_counts=check_counts, purpose=purpose)
    if not check_files or len(clips) < CACHED_FROM:
        return clips
    try:
        return _keep(clips, place)
    except (OSError, UserError) as error:
        logger.warning("%s:%s is read again by every process and at every start: %s", dataset, split, error)
        return clips


def _keep(clips: ClipTable, place: Path) -> ClipTable:
    """Write a table, remove older ones of the split, and return the mapped table."""
    with replacing(place) as temporary:
        clips.save(temporary, {})
    for older in place.parent.glob("*.safetensors"):
        # Hidden files are incomplete: another process is writing them.
        if older.name != place.name and not older.name.startswith("."):
            older.unlink(missing_ok=True)
    return ClipTable.open(place)[0]


def _place(dataset: str, split: str, root: Path, video_root: Path | None, check_counts: bool) -> Path:
    """Return the cache file of a split: in a folder of the split, named by the state of its annotation.

    A table whose counts were not checked has a name of its own.

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
    # The table holds paths as given, which depend on the working directory if relative.
    named = [str(root), str(media), str(root.absolute()), str(media.absolute())]
    folder = cache_directory() / "clips" / f"{dataset}-{split}-{_digest(named)}"
    kind = [] if check_counts else ["counts not checked"]
    return folder / f"{_digest([_FORMAT, *kind, *states])}.safetensors"


def _digest(value: Sequence[object]) -> str:
    return hashlib.sha256(repr(value).encode("utf-8", "surrogateescape")).hexdigest()[:16]

"""Cache indexes of videos on disk, so that each file is scanned once and not in every epoch and run.

An entry is a small file in the user's cache. Its key is the path, size and times of the video and the version of PyAV.
Processes may read and write at once: entries are written atomically and have a checksum. Entries that cannot be read
or written are ignored.

The cache is bounded. A full folder evicts random entries and not the oldest, which the next epoch over a large
collection needs first.
"""

import hashlib
import json
import logging
import os
import random
import zlib
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import av
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from evlvideo.cache import cache_directory
from evlvideo.data.media.media import Media, state_of
from evlvideo.data.video.frames import VideoMetadata
from evlvideo.data.video.index import VideoIndex, read_index
from evlvideo.data.video.packets import PacketReader, PacketTimes
from evlvideo.errors import UserError
from evlvideo.files import replacing

MOST_BYTES = 1 << 30
"""Upper bound of the cache on disk; about 260,000 clips of ten seconds."""

_FORMAT = 2
"""Increase it if the same file gives another index."""
_FOLDERS = 256
_NAMES_THAT_CLEAN = "0"
_MOST_ENTRY_BYTES = 1 << 26
_UNKNOWN = np.iinfo(np.int64).min
_PLAIN = (
    *("by_time", "by_packet", "open_groups", "false_keyframes", "false_times", "container", "stream"),
    "damaged_packets",
)

logger = logging.getLogger(__name__)


def cached_index(reader: PacketReader) -> VideoIndex:
    """Load a video's index from the cache, or read and cache it; see :func:`evlvideo.data.video.index.read_index`.

    Raises:
        DecodeError, av.FFmpegError: as there.
    """
    # The key is computed before reading: a file that changes meanwhile must not get the new key.
    entry = entry_of(reader.media)
    found = load_index(entry) if entry else None
    if found is not None:
        return found
    index = read_index(reader)
    if entry:
        store_index(entry, index)
    return index


def entry_of(media: Media) -> Path | None:
    """Return the cache file of a video's index, or None if the video cannot be read."""
    try:
        key = repr((_FORMAT, av.__version__, *state_of(media)))
    except (OSError, UserError):
        return None
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    return cache_directory() / "video-indexes" / name[:2] / name[2:]


def load_index(entry: Path) -> VideoIndex | None:
    """Load an index, or return None if there is no valid one."""
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(entry.read_bytes(), _MOST_ENTRY_BYTES)
        # zlib compares the checksum at the end.
        return _unpacked(content) if unpacker.eof else None
    except (OSError, zlib.error, SafetensorError, ValueError, KeyError, TypeError):
        return None


def store_index(entry: Path, index: VideoIndex) -> None:
    """Write an index, if that is possible."""
    try:
        with replacing(entry) as temporary:
            temporary.write_bytes(zlib.compress(_packed(index), level=1))
        # Hashes are as good as random, and leave the run's random state alone.
        if entry.name.endswith(_NAMES_THAT_CLEAN):
            clean(entry.parent)
    except (OSError, UserError) as error:
        logger.debug("%s", error)


def clean(folder: Path) -> None:
    """Remove random entries if a folder holds more than its share."""
    share = MOST_BYTES // _FOLDERS
    with os.scandir(folder) as entries:
        sizes = [(entry.path, _bytes_on_disk(entry)) for entry in entries]
    total = sum(size for _, size in sizes)
    if total <= share:
        return
    random.SystemRandom().shuffle(sizes)
    while sizes and total > share * 3 // 4:
        path, size = sizes.pop()
        total -= size
        with suppress(OSError):
            Path(path).unlink()


def _bytes_on_disk(entry: "os.DirEntry[str]") -> int:
    with suppress(OSError):
        return max(entry.stat().st_size, getattr(entry.stat(), "st_blocks", 0) * 512)
    return 0


def _packed(index: VideoIndex) -> bytes:
    places = [index.first, *index.keyframes]
    plain = {**{name: getattr(index, name) for name in _PLAIN}, "facts": asdict(index.metadata)}
    return save(
        {
            "times": index.times,
            "timestamps_seconds": index.timestamps_seconds,
            "shown": np.array([_UNKNOWN if place.pts is None else place.pts for place in places]),
            "stored": np.array([_UNKNOWN if place.dts is None else place.dts for place in places]),
            "plain": np.frombuffer(json.dumps(plain).encode(), np.uint8),
        }
    )


def _unpacked(content: bytes) -> VideoIndex:
    arrays = load(content)
    plain = json.loads(arrays["plain"].tobytes())
    metadata = VideoMetadata(**plain.pop("facts"))
    times = zip(arrays["shown"].tolist(), arrays["stored"].tolist(), strict=True)
    first, *keyframes = [PacketTimes(*(None if time == _UNKNOWN else time for time in pair)) for pair in times]
    return VideoIndex(
        times=arrays["times"],
        timestamps_seconds=arrays["timestamps_seconds"],
        first=first,
        keyframes=tuple(keyframes),
        metadata=metadata,
        **plain,
    )

"""Indexes of videos on disk, so that a file is read through once and not anew in each epoch and run.

An entry is a small file in the user's cache, found by what would change with the video: its place, size and times of
change, and the version of FFmpeg's bindings. Any number of processes may read and write at once: an entry is whole or
not there, has a check sum, and holds numbers alone. One that cannot be read or written is as good as none.

The cache is bounded. Where a folder of it is full, entries go at random: a collection that is larger than the cache is
gone through in turns, in which the oldest entry is the one that is needed next.
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
"""Of the whole cache on disk; about 260,000 clips of ten seconds."""

_FORMAT = 1
"""Grows when the same file gives another index."""
_FOLDERS = 256
_NAMES_THAT_CLEAN = "0"
_MOST_ENTRY_BYTES = 1 << 26
_UNKNOWN = np.iinfo(np.int64).min
_PLAIN = ("by_time", "open_groups", "false_keyframes", "container", "stream", "damaged_packets")

logger = logging.getLogger(__name__)


def cached_index(reader: PacketReader) -> VideoIndex:
    """Give a video's index from the cache, or read it and keep it; see :func:`evlvideo.data.video.index.read_index`.

    Raises:
        DecodeError, av.FFmpegError: as there.
    """
    # Looked at before it is read: one that changes meanwhile is not taken for what it became.
    entry = entry_of(reader.media)
    found = load_index(entry) if entry else None
    if found is not None:
        return found
    index = read_index(reader)
    if entry:
        store_index(entry, index)
    return index


def entry_of(media: Media) -> Path | None:
    """Tell where a video's index is kept; nowhere, where the video cannot be looked at."""
    try:
        key = repr((_FORMAT, av.__version__, *state_of(media)))
    except (OSError, UserError):
        return None
    name = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
    return cache_directory() / "video-indexes" / name[:2] / name[2:]


def load_index(entry: Path) -> VideoIndex | None:
    """Read an index, where there is a whole one."""
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(entry.read_bytes(), _MOST_ENTRY_BYTES)
        # At its end the check sum is compared.
        return _unpacked(content) if unpacker.eof else None
    except (OSError, zlib.error, SafetensorError, ValueError, KeyError, TypeError):
        return None


def store_index(entry: Path, index: VideoIndex) -> None:
    """Write an index, where there is room for it and the user may write."""
    try:
        with replacing(entry) as temporary:
            temporary.write_bytes(zlib.compress(_packed(index), level=1))
        # Names are as good as random; the run's own random numbers are left as they are.
        if entry.name.endswith(_NAMES_THAT_CLEAN):
            clean(entry.parent)
    except (OSError, UserError) as error:
        logger.debug("%s", error)


def clean(folder: Path) -> None:
    """Remove entries at random where a folder holds more than its share."""
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

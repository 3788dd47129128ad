"""Index the samples of a tar shard, to read each by its index without unpacking.

A shard is an uncompressed tar file in which the members of a sample are adjacent and share a key, the name up to the
first dot: `000012.jpg`, `000012.txt`. Parts may have names of their own, if there is one of each kind: `12.input.jpg`,
`12.output.txt`. Keys may hold dots, if a sample's members differ after the last one only: `v1.5.jpg`, `v1.5.txt`.
Hidden files are passed over. The index file is written once, beside the shard, and memory-mapped, so that the processes
of a machine share it.
"""

import hashlib
import os
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from evlvideo.cache import cache_directory
from evlvideo.data.annotation.messages import shown, some
from evlvideo.data.annotation.readers.fields import all_captions, clip_name
from evlvideo.data.media.shard_members import MOST_TEXT_BYTES, open_members, state_of_shard
from evlvideo.errors import UserError
from evlvideo.files import parse_json, replacing

MEDIA_SUFFIXES = ("jpg", "jpeg", "png", "webp", "mp4", "webm", "mkv", "avi", "mov")
"""Suffixes of a sample's image or video. The index stores positions in this tuple, so append only."""
TEXT_SUFFIXES = ("txt", "json")
"""Suffixes of its text: the caption, or an object with `caption` or `captions`. The first suffix wins."""

_FORMAT = "evlvideo-shard-1"
_COLUMNS = ("media_kind", "media_offset", "media_bytes", "text_kind", "text_offset", "text_bytes", "key_end")


@dataclass(frozen=True, slots=True)
class Sample:
    """Location of a sample's two members in the shard."""

    key: str
    media_suffix: str
    media_offset: int
    """First byte of the image or video, from the start of the shard."""
    media_bytes: int
    text_suffix: str
    text_offset: int
    """First byte of the caption."""
    text_bytes: int


class ShardIndex:
    """The samples of one shard, in its order; about 50 bytes a sample.

    Args:
        arrays: columns with one number a sample, the concatenated keys, and the number of samples `left_out`.
    """

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    @property
    def left_out(self) -> int:
        """Number of samples of the shard that are not in the index."""
        return int(self.arrays["left_out"][0])

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.arrays["key_end"])

    def __getitem__(self, number: int) -> Sample:
        """Return a sample by its index."""
        row = {name: int(self.arrays[name][number]) for name in _COLUMNS}
        start = int(self.arrays["key_end"][number - 1]) if number else 0
        return Sample(
            key=self.arrays["keys"][start : row["key_end"]].tobytes().decode(errors="replace"),
            media_suffix=MEDIA_SUFFIXES[row["media_kind"]],
            media_offset=row["media_offset"],
            media_bytes=row["media_bytes"],
            text_suffix=TEXT_SUFFIXES[row["text_kind"]],
            text_offset=row["text_offset"],
            text_bytes=row["text_bytes"],
        )


def index_file(shard: Path, index_root: Path | None = None) -> Path:
    """Return the path of a shard's index: beside it, or in the user's cache if that is not writable.

    Args:
        shard: a tar file.
        index_root: a directory for index files, instead of both.
    """
    name = f"{shard.name}.index.safetensors"
    if index_root is not None:
        return index_root / name
    beside = shard.with_name(name)
    if os.access(shard.parent, os.W_OK) or beside.exists():
        return beside
    folder = hashlib.sha256(os.fsencode(shard.parent.absolute())).hexdigest()[:16]
    return cache_directory() / "shard-indexes" / folder / name


def open_index(shard: Path, index: Path, state: tuple[int, int] | None = None) -> ShardIndex:
    """Memory-map a shard's index.

    Args:
        shard: a tar file.
        index: its index.
        state: size and time of the shard; see :class:`evlvideo.data.media.shard_files.ShardFile`. If None, look it up.

    Raises:
        OSError: the shard or the index cannot be opened.
        UserError: the index cannot be read, or was made from another shard.
    """
    state = state or state_of_shard(shard)
    with _opened(shard, index, state, framework="pt") as file:
        # As tensors, columns are views of the file, which is replaced but never changed.
        arrays = {name: file.get_tensor(name).numpy() for name in file.keys()}  # noqa: SIM118
        if _check_sum(arrays) != file.metadata().get("check_sum") or not _is_whole(arrays, state[0]):
            raise UserError(f"{index} is damaged; delete it, and it is made again.")
        return ShardIndex(arrays)


def count_samples(shard: Path, index: Path) -> int:
    """Count a shard's samples from the header of its index.

    Raises:
        OSError, UserError: as :func:`open_index`.
    """
    with _opened(shard, index, state_of_shard(shard), framework="np") as file:
        return int(np.prod(file.get_slice("key_end").get_shape()))


def make_index(shard: Path, index: Path) -> ShardIndex:
    """Build an index and write it.

    Raises:
        OSError: the shard does not exist.
        UserError: the shard cannot be read, or the index cannot be written.
    """
    size, mtime_ns = state_of_shard(shard)
    built = build_index(shard)
    with replacing(index) as temporary:
        save_file(built.arrays, temporary, metadata={**_facts(size, mtime_ns), "check_sum": _check_sum(built.arrays)})
    return built


def build_index(shard: Path) -> ShardIndex:
    """Scan a shard once. Leave out, and count, samples without media or a valid caption.

    Raises:
        UserError: the shard is not a tar file, is compressed or truncated, has a key twice, has no samples, or takes
            longer than :data:`evlvideo.data.media.shard_members.MOST_SECONDS`.
    """
    samples: list[Sample] = []
    left_out = 0
    keys: set[str] = set()
    with open_members(shard) as (file, all_members):
        for key, group in groupby(all_members, key=lambda member: _key(member.name)):
            if key in keys:
                raise UserError(f"{shard} has the key {shown(key)} twice; write a sample's members together.")
            keys.add(key)
            members = list(group)
            found = [_sample(shard, file, *parts) for parts in _split(key, members)]
            samples += [sample for sample in found if sample is not None]
            left_out += found.count(None)
    if not samples:
        raise UserError(
            f"{shard} has no samples: no images or videos with captions in .txt or .json beside them, one of each."
            + (f" Its last group is {some(member.name for member in members)}." if keys else "")
        )
    return ShardIndex({**_columns(samples), "left_out": np.array([left_out])})


def captions_of(place: str, content: bytes, suffix: str) -> tuple[str, ...]:
    """Read a sample's captions from its text member.

    Raises:
        UserError: they are not UTF-8, blank, or not in a format of :data:`TEXT_SUFFIXES`.
    """
    try:
        text = content.decode("utf-8-sig")
        if suffix == "txt":
            return all_captions(place, text.strip())
        entry = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: the caption cannot be read: {error}.") from error
    if not isinstance(entry, dict):
        raise UserError(f"{place} is {shown(entry)}; it must be an object with 'caption' or 'captions'.")
    return all_captions(place, entry.get("captions", entry.get("caption")))


def _key(name: str) -> str:
    folder, _, last = name.rpartition("/")
    key = last.partition(".")[0]
    return f"{folder}/{key}" if folder else key


def _split(key: str, members: list[tarfile.TarInfo]) -> list[tuple[str, list[tarfile.TarInfo]]]:
    """Split members that share a key by what is before their last dot, if that makes samples of them."""
    whole = {_suffix(member.name) for member in members}
    by_stem = [
        (stem, list(of_stem)) for stem, of_stem in groupby(members, key=lambda member: member.name.rpartition(".")[0])
    ]
    kinds = MEDIA_SUFFIXES, TEXT_SUFFIXES
    if all(whole.intersection(suffixes) for suffixes in kinds):
        return [(key, members)]
    if any(all(_find(of_stem, suffixes) for suffixes in kinds) for _, of_stem in by_stem):
        return by_stem
    return [(key, members)]


def _find(members: list[tarfile.TarInfo], suffixes: tuple[str, ...]) -> tuple[str, tarfile.TarInfo] | None:
    """Find the member of a kind and its suffix: by its whole suffix or, if only one ends so, by the end of it."""
    whole = {_suffix(member.name): member for member in members}
    found = [(suffix, whole[suffix]) for suffix in suffixes if suffix in whole]
    last = [(member.name.rpartition(".")[2].lower(), member) for member in members]
    named = [(suffix, member) for suffix, member in last if suffix in suffixes]
    return found[0] if found else named[0] if len(named) == 1 else None


def _suffix(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[2].lower()


def _sample(shard: Path, file: BinaryIO, key: str, members: list[tarfile.TarInfo]) -> Sample | None:
    media, text = _find(members, MEDIA_SUFFIXES), _find(members, TEXT_SUFFIXES)
    if media is None or text is None or not media[1].size or text[1].size > MOST_TEXT_BYTES:
        return None
    file.seek(text[1].offset_data)
    content = file.read(text[1].size)
    try:
        clip_name(str(shard), key)
        captions_of(str(shard), content, text[0])
    except UserError:
        return None
    return Sample(
        key=key,
        media_suffix=media[0],
        media_offset=media[1].offset_data,
        media_bytes=media[1].size,
        text_suffix=text[0],
        text_offset=text[1].offset_data,
        text_bytes=text[1].size,
    )


def _is_whole(arrays: Mapping[str, np.ndarray], size_bytes: int) -> bool:
    """Return whether an index can be the index of a shard of this size, whoever wrote it."""
    if arrays.keys() != {*_COLUMNS, "keys", "left_out"} or any(array.ndim != 1 for array in arrays.values()):
        return False
    if any(array.dtype.kind not in "iu" for array in arrays.values()) or len(arrays["left_out"]) != 1:
        return False
    columns = [arrays[name] for name in _COLUMNS]
    if len({len(column) for column in columns}) != 1 or any((column < 0).any() for column in columns):
        return False
    ends = [arrays[f"{kind}_bytes"] <= size_bytes - arrays[f"{kind}_offset"] for kind in ("media", "text")]
    kinds = [
        (arrays[f"{kind}_kind"] < len(of)).all() for kind, of in (("media", MEDIA_SUFFIXES), ("text", TEXT_SUFFIXES))
    ]
    key_ends = arrays["key_end"]
    in_order = (np.diff(key_ends, prepend=0) >= 0).all() and key_ends[-1:].tolist() == [len(arrays["keys"])]
    return bool(all(end.all() for end in ends) and all(kinds) and in_order)


def _columns(samples: list[Sample]) -> dict[str, np.ndarray]:
    keys = [sample.key.encode() for sample in samples]
    return {
        "media_kind": np.array([MEDIA_SUFFIXES.index(sample.media_suffix) for sample in samples], np.uint8),
        "media_offset": np.array([sample.media_offset for sample in samples], np.int64),
        "media_bytes": np.array([sample.media_bytes for sample in samples], np.int64),
        "text_kind": np.array([TEXT_SUFFIXES.index(sample.text_suffix) for sample in samples], np.uint8),
        "text_offset": np.array([sample.text_offset for sample in samples], np.int64),
        "text_bytes": np.array([sample.text_bytes for sample in samples], np.int64),
        "key_end": np.cumsum([len(key) for key in keys], dtype=np.int64),
        "keys": np.frombuffer(b"".join(keys), np.uint8),
    }


@contextmanager
def _opened(shard: Path, index: Path, state: tuple[int, int], framework: str) -> Iterator[Any]:
    if not index.is_file():
        raise UserError(f"{index} is missing or not a file; `evlvideo data index` makes it again.")
    index.open("rb").close()  # An error raised here has its errno, and is retried if transient.
    try:
        with safe_open(index, framework=framework) as file:
            metadata = file.metadata() or {}
            differing = [name for name, value in _facts(*state).items() if metadata.get(name) != value]
            if differing:
                raise UserError(
                    f"{index} is not the index of {shard} as it is now (its {', '.join(differing)} differs). If the "
                    "shard is right, delete the index, and it is made again; samples may then have other indices."
                )
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(f"{index} cannot be read: {error}; delete it, and it is made again.") from error


def _check_sum(arrays: dict[str, np.ndarray]) -> str:
    check_sum = 0
    for name in sorted(arrays):
        check_sum = zlib.crc32(arrays[name].data, zlib.crc32(f"{name} {arrays[name].dtype}".encode(), check_sum))
    return str(check_sum)


def _facts(size: int, mtime_ns: int) -> dict[str, str]:
    return {"format": _FORMAT, "size": str(size), "mtime_ns": str(mtime_ns)}

"""List the members of a tar shard from its headers, within bounds of memory and time."""

import io
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from time import monotonic
from typing import BinaryIO

from evlvideo.data.media.media import TarMember
from evlvideo.errors import UserError

MOST_SECONDS = 3600.0
"""Upper bound of the time that the headers of a shard may take."""
MOST_TEXT_BYTES = 1 << 20
"""Upper bound of a header, and of a sample's text."""
_BLOCK = 512


def list_members(shard: Path) -> list[TarMember]:
    """List the files of a shard, in its order, without hidden ones.

    Raises:
        UserError: it is not a tar file, is compressed or truncated, or takes longer than :data:`MOST_SECONDS`.
    """
    with open_members(shard) as (_, members):
        return [TarMember(shard, member.name, member.offset_data, member.size) for member in members]


@contextmanager
def open_members(shard: Path) -> Iterator[tuple[BinaryIO, Iterator[tarfile.TarInfo]]]:
    """Yield a shard, open for reading, and its files that can be read by offset, without hidden ones.

    The block takes all of them.

    Raises:
        UserError: as :func:`list_members`.
    """
    state_of_shard(shard)  # Opening something else, such as a pipe, might never return.
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=_Headers(file), mode="r:") as archive:
            yield file, _readable(archive)
            _check_end(shard, file, archive.offset)
    except (tarfile.TarError, OSError, EOFError, ValueError, RecursionError) as error:
        raise UserError(f"{shard} cannot be read as an uncompressed tar file: {error}. Get it again.") from error


def state_of_shard(shard: Path) -> tuple[int, int]:
    """Return a shard's size in bytes, and the time of its last change in nanoseconds since 1970.

    Raises:
        OSError: it does not exist.
        UserError: it is not a file.
    """
    status = shard.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{shard} is not a file but a folder, pipe or device; shards are files.")
    return status.st_size, status.st_mtime_ns


def _readable(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in archive:
        # Links, folders and sparse files cannot be read by offset.
        if member.isreg() and not member.issparse() and not _is_hidden(member.name):
            yield member


def _is_hidden(name: str) -> bool:
    """Return whether a member is what systems add on their own: `.DS_Store`, `._000012.jpg`, `__MACOSX/…`."""
    return any(part == "__MACOSX" or (part[0] == "." and part != "..") for part in PurePosixPath(name).parts)


def _check_end(shard: Path, file: BinaryIO, end: int) -> None:
    # tarfile takes a broken header for the end of the file; the end is a block of zeros.
    file.seek(end)
    if file.read(_BLOCK) != bytes(_BLOCK):
        raise UserError(f"{shard} is truncated or broken at byte {end}; get it again.")


class _Headers(io.RawIOBase):
    """The headers of a tar file. Refuses what would take all memory, or for ever.

    Args:
        file: the tar file; read at the same time for its members.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._place = file, 0
        self._deadline = monotonic() + MOST_SECONDS

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_TEXT_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        if monotonic() > self._deadline:
            raise tarfile.ReadError(f"not done after {MOST_SECONDS:g} s")
        self._file.seek(self._place)
        content = self._file.read(size)
        self._place += len(content)
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        assert whence == io.SEEK_SET
        self._place = offset
        return offset

    def tell(self) -> int:
        return self._place

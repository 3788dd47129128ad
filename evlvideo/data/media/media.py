"""Read an image or video from a file or from a member of a tar shard."""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal

from evlvideo.data.media.shard_files import read_shard, shard_state


@dataclass(frozen=True, slots=True)
class TarMember:
    """An image or video inside a shard, accepted wherever :data:`Media` is."""

    shard: Path
    name: str
    """Name in the shard, such as `000170034.jpg`."""
    offset: int
    """First byte, from the start of the shard."""
    size_bytes: int
    content: bytes | None = field(default=None, repr=False, compare=False)
    """The bytes, if already read."""

    @property
    def suffix(self) -> str:
        """Suffix of the name, such as `.jpg`."""
        return f".{self.name.rpartition('.')[2]}"

    def __str__(self) -> str:
        return f"{self.name} in {self.shard}"

    def read(self) -> bytes:
        """Read all bytes.

        Raises:
            DecodeError: the shard cannot be read at the moment.
            UserError: the shard is missing or truncated.
        """
        return read_shard(self.shard, self.offset, self.size_bytes) if self.content is None else self.content

    def open(self, mode: Literal["rb"] = "rb") -> BinaryIO:
        """Open the member for reading. Reads only the requested bytes."""
        if self.content is not None:
            return io.BytesIO(self.content)
        return io.BufferedReader(_Stream(self), _BUFFER_BYTES)

    @contextmanager
    def as_file(self) -> Iterator[Path]:
        """Copy the member to a temporary file, for decoders that need a path."""
        with tempfile.NamedTemporaryFile(prefix="evlvideo-", suffix=self.suffix) as file:
            file.write(self.read())
            file.flush()
            yield Path(file.name)


Media = Path | TarMember

_BUFFER_BYTES = 1 << 16


def state_of(media: Media) -> tuple[object, ...]:
    """Return the location, size and times of change, which differ if the bytes do.

    Raises:
        OSError: the file cannot be accessed.
    """
    if isinstance(media, TarMember):
        return (str(media.shard.absolute()), *shard_state(media.shard), media.offset, media.size_bytes)
    status = media.stat()
    return str(media.absolute()), status.st_size, status.st_mtime_ns, status.st_ctime_ns


def size_of(media: Media) -> int:
    """Count the bytes."""
    return media.size_bytes if isinstance(media, TarMember) else media.stat().st_size


@contextmanager
def as_file(media: Media) -> Iterator[Path]:
    """Yield a path, for decoders that need one."""
    if isinstance(media, Path):
        yield media
    else:
        with media.as_file() as path:
            yield path


class _Stream(io.RawIOBase):
    """A member as a seekable stream."""

    def __init__(self, member: TarMember) -> None:
        self._member = member
        self._place = 0
        self.name = member.name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        length = min(len(buffer), max(self._member.size_bytes - self._place, 0))
        if length:
            buffer[:length] = read_shard(self._member.shard, self._member.offset + self._place, length)
            self._place += length
        return length

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._member.size_bytes}[whence]
        if start + offset < 0:
            raise OSError(f"{self._member} has no byte {start + offset}.")
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

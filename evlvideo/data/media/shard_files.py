"""Read parts of shards, which stay open between samples.

Each read passes its offset, so that forked processes, which share open files, do not interfere. Reads are retried if a
disk or network fails.
"""

import errno
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from evlvideo.data.media.errors import DecodeError
from evlvideo.errors import UserError

MOST_OPEN = 64
"""Upper bound of shards kept open; a process may usually have 1,024 files open."""
WAITS_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Wait before each retry: a minute in total, enough for a file server to restart."""

_PASSING = {
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.ENETDOWN, errno.ENETUNREACH),
    *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN),
}
"""Transient errors of disks, networks and file servers. Others, such as a missing file, are final."""
_MOST_WAITED_FOR = 3
"""After waiting in vain for this many shards, do not wait for others: each would cost a minute."""

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


class ShardFile:
    """An open shard. Closes with its last reference, so never during a read.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._handle = -1
        self._handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    @property
    def state(self) -> tuple[int, int]:
        """Size in bytes, and time of the last change in nanoseconds since 1970."""
        status = os.fstat(self._handle)
        return status.st_size, status.st_mtime_ns

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Read from an offset; fewer bytes if the file ends."""
        if hasattr(os, "pread"):
            return os.pread(self._handle, size_bytes, offset)
        os.lseek(self._handle, offset, os.SEEK_SET)  # Windows, where nothing is forked
        return os.read(self._handle, size_bytes)

    def __del__(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)


_open: OrderedDict[Path, ShardFile] = OrderedDict()
_given_up: set[Path] = set()


def read_shard(path: Path, offset: int, size_bytes: int) -> bytes:
    """Read part of a shard, and keep it open.

    Raises:
        DecodeError: it still cannot be read after all retries.
        UserError: it is missing or truncated.
    """
    return whole(path, size_bytes, with_retries(path, lambda: _use(path, lambda file: file.read(offset, size_bytes))))


def shard_state(path: Path) -> tuple[int, int]:
    """Return a shard's size and time of the last change.

    Raises:
        DecodeError, UserError: as :func:`read_shard`.
    """
    return with_retries(path, lambda: _use(path, lambda file: file.state))


def whole(path: Path, size_bytes: int, content: bytes) -> bytes:
    """Return the bytes read, if they are complete.

    Raises:
        UserError: there are fewer than requested.
    """
    if len(content) < size_bytes:
        raise UserError(f"The shard {path} is truncated; get it again.")
    return content


def _use(path: Path, read: Callable[[ShardFile], Result]) -> Result:
    try:
        if path not in _open:
            _open[path] = ShardFile(path)
            if len(_open) > MOST_OPEN:
                _open.popitem(last=False)
        _open.move_to_end(path)
        return read(_open[path])
    except OSError:
        _open.pop(path, None)
        raise


def with_retries(path: Path, read: Callable[[], Result]) -> Result:
    """Read from a shard, and retry for a minute if a disk or network fails.

    After that, each read of the shard is tried once until one succeeds.

    Args:
        path: the shard.
        read: reads from it, and reopens it after a failure.

    Raises:
        DecodeError: the failure persists. In training, another sample replaces this one.
        UserError: the shard cannot be read for a permanent reason.
    """
    waits = () if path in _given_up or len(_given_up) >= _MOST_WAITED_FOR else WAITS_SECONDS
    for wait_seconds in (*waits, None):
        try:
            result = read()
        except OSError as error:
            reason = error.strerror or str(error)
            if error.errno not in _PASSING:
                raise UserError(f"The shard {path} cannot be read: {reason}.") from error
            if wait_seconds is None:
                raise _gives_up(path, reason) from error
            logger.warning("%s: %s; trying again in %g s", path, reason, wait_seconds)
            time.sleep(wait_seconds)
        else:
            if path in _given_up:
                _given_up.remove(path)
                logger.warning("%s can be read again", path)
            return result
    raise AssertionError("the last attempt returns or raises")


def _gives_up(path: Path, reason: str) -> DecodeError:
    if path not in _given_up:
        _given_up.add(path)
        logger.warning("%s: %s; other samples replace its own until it can be read again", path, reason)
    return DecodeError(f"The shard {path} cannot be read at the moment: {reason}.")

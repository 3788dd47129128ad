"""Reading parts of shards, which stay open: not one file is opened for each sample.

Reading names the place each time, so that processes forked from this one, which inherit what is open, do not disturb
each other. Where a disk or a network fails, it is given some time to come back.
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
"""Shards kept open by whoever reads some; a process may usually have 1,024 files open."""
WAITS_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""How long to wait before each further try: a minute, in which a file server starts anew."""

_PASSING = {
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EBUSY, errno.ENETDOWN, errno.ENETUNREACH),
    *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN),
}
"""Errors of disks, networks and file servers, which may pass. Others, such as that a file is not there, will not."""
_MOST_WAITED_FOR = 3
"""Once as many shards were waited for in vain, no others are: all would be gone, and each would cost a minute."""

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


class ShardFile:
    """An open shard. It is closed when nothing refers to it any more, so that nobody loses it while reading.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._handle = -1
        self._handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    @property
    def state(self) -> tuple[int, int]:
        """Its size in bytes, and when it was changed last, in nanoseconds since 1970."""
        status = os.fstat(self._handle)
        return status.st_size, status.st_mtime_ns

    def read(self, offset: int, size_bytes: int) -> bytes:
        """Read from a place on, fewer bytes where the file ends."""
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
    """Read a part of a shard, which stays open.

    Raises:
        DecodeError: it cannot be read at the moment, nor after some time.
        UserError: it is gone or cut short.
    """
    return whole(path, size_bytes, with_retries(path, lambda: _use(path, lambda file: file.read(offset, size_bytes))))


def shard_state(path: Path) -> tuple[int, int]:
    """Give a shard's size, and when it was changed last.

    Raises:
        DecodeError, UserError: as :func:`read_shard`.
    """
    return with_retries(path, lambda: _use(path, lambda file: file.state))


def whole(path: Path, size_bytes: int, content: bytes) -> bytes:
    """Give what was read.

    Raises:
        UserError: it is less than what was asked for.
    """
    if len(content) < size_bytes:
        raise UserError(f"The shard {path} is cut short; get it again.")
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
    """Read from a shard, again and again for a minute where a disk or network fails.

    Where that was in vain, the next reading is tried once, until one works again.

    Args:
        path: the shard.
        read: reads from it, and opens it anew where that failed before.

    Raises:
        DecodeError: the failure lasts. In training, another sample takes the place of the one that was to be read.
        UserError: the shard cannot be read for a reason that does not pass.
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
    raise AssertionError("the last try returns or raises")


def _gives_up(path: Path, reason: str) -> DecodeError:
    if path not in _given_up:
        _given_up.add(path)
        logger.warning("%s: %s; other samples take the place of its own until it can be read again", path, reason)
    return DecodeError(f"The shard {path} cannot be read at the moment: {reason}.")

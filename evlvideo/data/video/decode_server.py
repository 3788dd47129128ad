"""The process in which :mod:`evlvideo.data.video.guarded` decodes: it answers requests until its parent is gone.

Modules that take long to import, such as torch, stay out of here.
"""

import os
import pickle
import signal
import socket
import struct
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media
from evlvideo.data.media.shard_index import make_index
from evlvideo.data.video.decode import FrameRange, OpenVideo, check_video, open_video
from evlvideo.data.video.frames import DecodedFrames
from evlvideo.errors import UserError

GRACE_SECONDS = 5.0
"""How long after its time limit a process ends by itself, where no parent is left to end it."""


class Server:
    """What a parent can ask for. A clip is opened, its frames are chosen by the parent, and then it is read."""

    def __init__(self) -> None:
        self._files = ExitStack()
        self._clip: OpenVideo | None = None
        self.media: Media = Path()
        """What was asked about last."""

    def open(self, media: Media, start_seconds: float | None, end_seconds: float | None) -> FrameRange:
        """Look into a file."""
        self.close()
        self.media = media
        self._clip = self._files.enter_context(open_video(media, start_seconds, end_seconds))
        return self._clip.range

    def read(self, chosen: list[int], size: int | None, keep_aspect: bool, backend: str) -> DecodedFrames:
        """Decode frames of the file that was opened last, and close it."""
        if self._clip is None:
            raise RuntimeError("Nothing is open.")
        try:
            return self._clip.read(chosen, size, keep_aspect=keep_aspect, backend=backend)
        finally:
            self.close()

    def check(self, media: Media, frames: int | None) -> int:
        """Decode all frames of a file, or so many of them; see :func:`evlvideo.data.video.decode.check_video`."""
        self.media = media
        return check_video(media, frames)

    def index_shard(self, shard: Path, index: Path) -> tuple[int, int]:
        """Make a shard's index; see :func:`evlvideo.data.media.shard_index.make_index`.

        Returns:
            how many samples it has, and how many were left out.
        """
        made = make_index(shard, index)
        return len(made), made.left_out

    def close(self) -> None:
        """Close what is open."""
        self._clip = None
        self._files.close()


def serve(handle: int) -> None:
    """Answer requests from a socket until it is closed.

    A request is the name of a method of :class:`Server`, its arguments, and the seconds after which nobody waits for
    the answer. An answer is what the method returned, or the error that it raised.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        # These are for the parent, which ends its step, and then closes the socket or kills this process.
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        # Where memory runs out, this process is to be ended, and not the training run.
        Path("/proc/self/oom_score_adj").write_text("1000")
    server = Server()
    with socket.socket(fileno=handle) as connection, suppress(EOFError, ConnectionError):
        send(connection, os.getpid())
        while True:
            name, arguments, limit_seconds = receive(connection)
            # The signal's default is to end the process, also one that hangs inside a decoder.
            signal.setitimer(signal.ITIMER_REAL, limit_seconds + GRACE_SECONDS)
            answer = _answer(server, name, arguments)
            signal.setitimer(signal.ITIMER_REAL, 0)
            send(connection, answer)


def send(connection: socket.socket, value: Any) -> None:
    """Send a value: the sizes of its parts, and its parts. Frames are a part of their own, which saves copying them."""
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(content), *(buffer.raw() for buffer in buffers)]
    connection.sendall(struct.pack(f"<{len(parts) + 1}Q", len(parts), *(part.nbytes for part in parts)))
    for part in parts:
        connection.sendall(part)


def receive(connection: socket.socket, deadline: float | None = None) -> Any:
    """Receive a value.

    Raises:
        EOFError: the other side is gone.
        TimeoutError: the deadline, on the monotonic clock, has passed.
    """
    (count,) = struct.unpack("<Q", _receive_exactly(connection, 8, deadline))
    sizes = struct.unpack(f"<{count}Q", _receive_exactly(connection, 8 * count, deadline))
    content, *buffers = [_receive_exactly(connection, size, deadline) for size in sizes]
    return pickle.loads(content, buffers=buffers)


def _receive_exactly(connection: socket.socket, length: int, deadline: float | None) -> bytearray:
    content = bytearray(length)
    view, received = memoryview(content), 0
    while received < length:
        if deadline is not None:
            # Zero would mean not to wait at all, which a socket takes for another mode.
            connection.settimeout(max(deadline - time.monotonic(), 1e-3))
        count = connection.recv_into(view[received:])
        if not count:
            raise EOFError
        received += count
    return content


def _answer(server: Server, name: str, arguments: tuple[Any, ...]) -> Any:
    try:
        return getattr(server, name)(*arguments)
    except UserError as error:
        return error
    except Exception as error:
        # Whatever a broken file makes a decoder raise costs that file only.
        return DecodeError(f"{server.media} cannot be decoded: {type(error).__name__}: {error}.")

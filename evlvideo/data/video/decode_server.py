"""The helper process of :mod:`evlvideo.data.video.guarded`: answers requests until its parent is gone.

Must not import slow modules such as torch.
"""

import os
import pickle
import signal
import socket
import struct
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media
from evlvideo.data.media.shard_index import make_index
from evlvideo.data.video.decode import FileFacts, FrameRange, OpenVideo, check_video, open_video
from evlvideo.data.video.frames import DecodedFrames
from evlvideo.data.video.working_time import WorkingTime
from evlvideo.errors import UserError
from evlvideo.processes import STOP_SIGNALS

GRACE_SECONDS = 5.0
"""Processor time beyond the limit at which the process ends itself."""
_LOOK_SECONDS = 1.0
"""How often it looks whether its parent is gone."""


class Server:
    """Answers requests of the parent, which opens a clip, chooses frames, and then reads them."""

    def __init__(self) -> None:
        self._files = ExitStack()
        self._clip: OpenVideo | None = None
        self.media: Media = Path()
        """Media of the last request."""

    def open(self, media: Media, start_seconds: float | None, end_seconds: float | None) -> FrameRange:
        """Open a file, and return the frames to choose from."""
        self.close()
        self.media = media
        self._clip = self._files.enter_context(open_video(media, start_seconds, end_seconds))
        return self._clip.range

    def read(self, chosen: list[int], size: int | None, keep_aspect: bool, backend: str) -> DecodedFrames:
        """Decode frames of the open file, and close it."""
        if self._clip is None:
            raise RuntimeError("Nothing is open.")
        try:
            return self._clip.read(chosen, size, keep_aspect=keep_aspect, backend=backend)
        finally:
            self.close()

    def describe(self, media: Media) -> FileFacts:
        """Index a file; see :mod:`evlvideo.data.video.index_cache`."""
        self.media = media
        with open_video(media) as clip:
            return clip.facts

    def check(self, media: Media, frames: int | None) -> int:
        """Decode some or all frames of a file; see :func:`evlvideo.data.video.decode.check_video`."""
        self.media = media
        return check_video(media, frames)

    def index_shard(self, shard: Path, index: Path) -> tuple[int, int]:
        """Make a shard's index; see :func:`evlvideo.data.media.shard_index.make_index`.

        Returns:
            the number of samples, and the number left out.
        """
        made = make_index(shard, index)
        return len(made), made.left_out

    def close(self) -> None:
        """Close the open file, if any."""
        self._clip = None
        self._files.close()


def serve(handle: int) -> None:
    """Answer requests from a socket until it is closed.

    A request is the name of a method of :class:`Server`, its arguments, and a time limit in seconds. The answer is the
    method's return value, or its error.
    """
    for number in STOP_SIGNALS:
        # The parent handles them: it finishes its step, then closes the socket or kills this process.
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        # If memory runs out, the kernel should kill this process, not the training run.
        Path("/proc/self/oom_score_adj").write_text("1000")
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    server = Server()
    with socket.socket(fileno=handle) as connection, suppress(EOFError, ConnectionError):
        send(connection, os.getpid())
        while True:
            name, arguments, limit_seconds = receive(connection)
            # By default, the signal ends the process, even if it hangs inside a decoder. Time on the clock would pass
            # while the job is suspended.
            signal.setitimer(signal.ITIMER_PROF, limit_seconds + GRACE_SECONDS)
            answer = _answer(server, name, arguments)
            signal.setitimer(signal.ITIMER_PROF, 0)
            send(connection, answer)


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, even if a decoder waits for something."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def send(connection: socket.socket, value: Any) -> None:
    """Send a value as parts, with their sizes first. Frames are a separate part, which avoids a copy."""
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(content), *(buffer.raw() for buffer in buffers)]
    connection.sendall(struct.pack(f"<{len(parts) + 1}Q", len(parts), *(part.nbytes for part in parts)))
    for part in parts:
        connection.sendall(part)


def receive(connection: socket.socket, time_left: WorkingTime | None = None) -> Any:
    """Receive a value.

    Raises:
        EOFError: the other side is gone.
        TimeoutError: no time is left.
    """
    (count,) = struct.unpack("<Q", _receive_exactly(connection, 8, time_left))
    sizes = struct.unpack(f"<{count}Q", _receive_exactly(connection, 8 * count, time_left))
    content, *buffers = [_receive_exactly(connection, size, time_left) for size in sizes]
    return pickle.loads(content, buffers=buffers)


def _receive_exactly(connection: socket.socket, length: int, time_left: WorkingTime | None) -> bytearray:
    content = bytearray(length)
    view, received = memoryview(content), 0
    while received < length:
        connection.settimeout(None if time_left is None else time_left.next_wait())
        try:
            count = connection.recv_into(view[received:])
        except TimeoutError:
            continue
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
        # No error in a decoder may cost more than its file.
        return DecodeError(f"{server.media} cannot be decoded: {type(error).__name__}: {error}.")

"""Decode in a helper process, so that a hang or crash of a decoder costs a clip and not the run.

Each calling process, such as a data loader's worker, has one helper. It starts when first needed, restarts after a
crash or timeout, and ends with its caller. Without POSIX, as on Windows, clips are decoded in the calling process.
"""

import atexit
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any, TypeVar

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media, TarMember
from evlvideo.data.video.backends.image import is_image
from evlvideo.data.video.decode import Choose, FileFacts, FrameRange, decode_frames, open_video
from evlvideo.data.video.decode_server import receive, send
from evlvideo.data.video.frames import DecodedFrames
from evlvideo.data.video.working_time import WorkingTime
from evlvideo.errors import UserError

TIME_LIMIT_SECONDS = 60.0
"""Upper bound for one clip; a minute of 1080p video takes some seconds."""

logger = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")

PAUSES_SECONDS = (0.5, 2.0, 5.0)
"""Before a helper that ended while starting is started again."""
_START_SECONDS = 120.0
_PROGRAM = """
import importlib, json, sys
sys.path[:] = json.loads(sys.argv[1])
importlib.import_module(sys.argv[2]).serve(int(sys.argv[3]))
"""


def decode_frames_guarded(
    media: Media,
    choose: Choose,
    size: int | None = None,
    *,
    keep_aspect: bool = False,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    backend: str = "auto",
    time_limit_seconds: float = TIME_LIMIT_SECONDS,
) -> DecodedFrames:
    """Decode as :func:`evlvideo.data.video.decode.decode_frames` does, in this process's helper.

    Decodes images already in memory in this process: they need no disk, and only common formats reach Pillow.

    Args:
        media: as there.
        choose: as there; called in this process.
        size: as there.
        keep_aspect: as there.
        start_seconds: as there.
        end_seconds: as there.
        backend: as there.
        time_limit_seconds: upper bound for the whole clip.

    Raises:
        DecodeError: as `decode_frames`; also if the decoder took too long or crashed.
        UserError: the backend is unknown or not installed, or the helper does not start.
    """
    if os.name != "posix" or (isinstance(media, TarMember) and media.content is not None and is_image(media)):
        return decode_frames(
            media,
            choose,
            size,
            keep_aspect=keep_aspect,
            start_seconds=start_seconds,
            end_seconds=end_seconds,
            backend=backend,
        )
    helper = _helper_of_this_process()
    with helper.lock:
        helper.start()
        time_left = WorkingTime(time_limit_seconds)
        range_: FrameRange = helper.ask(media, "open", (media, start_seconds, end_seconds), time_left)
        chosen: Sequence[int] = choose(range_.count, range_.seconds)
        decoded: DecodedFrames = helper.ask(media, "read", (list(chosen), size, keep_aspect, backend), time_left)
    return decoded


def describe_guarded(media: Media, *, time_limit_seconds: float = TIME_LIMIT_SECONDS) -> FileFacts:
    """Index a file in this process's helper, and say what is known of it.

    Args:
        media: a video or a picture.
        time_limit_seconds: upper bound. The whole file is read, and of some formats every frame decoded, unless its
            index is in the cache.

    Raises:
        DecodeError: as :func:`decode_frames_guarded`.
        UserError: as there.
    """
    if os.name != "posix":
        with open_video(media) as clip:
            return clip.facts
    helper = _helper_of_this_process()
    with helper.lock:
        facts: FileFacts = helper.ask(media, "describe", (media,), WorkingTime(time_limit_seconds))
    return facts


class DecodeProcess:
    """A helper process, see :mod:`evlvideo.data.video.decode_server`.

    Args:
        module: name of a module with a function `serve`, which the process runs.
    """

    def __init__(self, module: str = "evlvideo.data.video.decode_server") -> None:
        self.module = module
        self.lock = threading.Lock()
        """Held while requests belong together."""
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        _processes.add(self)

    @property
    def pid(self) -> int | None:
        """The helper's process id, if it is running."""
        return self._process.pid if self._process else None

    def start(self) -> socket.socket:
        """Start the helper if it is not running, and return the connection to it.

        Raises:
            UserError: it does not start.
        """
        if self._process is not None and self._process.poll() is not None:
            self.close()
        time_left = WorkingTime(_START_SECONDS)
        for pause_seconds in (*PAUSES_SECONDS, None):
            if self._connection is not None:
                return self._connection
            try:
                self._connection = self._started(time_left)
            except (OSError, EOFError) as error:
                # It may be ended for lack of memory, and there may be memory later.
                self.close()
                if pause_seconds is None or isinstance(error, TimeoutError):
                    raise UserError(
                        f"The helper process that decodes videos does not start ({error or 'see its output above'}); "
                        "decode without a time limit to do without it."
                    ) from error
                logger.warning("The helper process that decodes videos ended while starting; it is started again.")
                time.sleep(pause_seconds)
            except BaseException:
                self.close()
                raise
        assert self._connection is not None
        return self._connection

    def _started(self, time_left: WorkingTime) -> socket.socket:
        """Start a process, and return the connection to it once it answers."""
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), self.module, str(theirs.fileno())]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with ExitStack() as failing:
            failing.enter_context(ours)
            with theirs:
                self._process = subprocess.Popen(
                    command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment
                )
            receive(ours, time_left)
            failing.pop_all()
        return ours

    def ask(self, media: Media, name: str, arguments: tuple[Any, ...], time_left: WorkingTime) -> Any:
        """Send one request, and return the answer.

        Args:
            media: the file, for messages.
            name: a method of the server.
            arguments: its arguments.
            time_left: how long to wait.

        Raises:
            DecodeError: the file cannot be decoded, no time is left, or the helper crashed.
            UserError: the helper does not start, or the request is wrong.
        """
        connection = self.start()
        try:
            time_left.next_wait()
            connection.settimeout(None)
            send(connection, (name, arguments, time_left.left_seconds))
            answer = receive(connection, time_left)
        except TimeoutError:
            self.close()
            raise DecodeError(f"{media} cannot be decoded: timed out after {time_left.limit_seconds:g} s.") from None
        except (EOFError, ConnectionError):
            raise DecodeError(f"{media} cannot be decoded: the decoder {self._end()}.") from None
        except BaseException:
            # Interrupted between request and answer: the next request would get this answer.
            self.close()
            raise
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        """End the helper."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.kill()
            try:
                self._process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                # It waits for a disk or a network, and ends when that answers; no signal reaches it before.
                self._process.returncode = -signal.SIGKILL
        self._process = self._connection = None

    def _end(self) -> str:
        """Describe how the helper ended."""
        status = None
        if self._process is not None:
            try:
                status = self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                status = None
        self.close()
        if status is None:
            return "closed its connection"
        return f"crashed with {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def _forget(self) -> None:
        """Leave the helper to the parent, in a forked process."""
        self.lock = threading.Lock()
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            self._process.returncode = 0  # It is no child of this process, which must not wait for it.
        self._process = self._connection = None


def with_helpers(
    work: Callable[[DecodeProcess, Task], Result], tasks: Sequence[Task], processes: int
) -> Iterator[Result]:
    """Work on several tasks at a time, each with a helper of its own; yield results as they are ready.

    Args:
        work: called in a thread with a helper and a task.
        tasks: the tasks.
        processes: number of helpers.
    """
    helpers = [DecodeProcess() for _ in range(processes)]
    free: SimpleQueue[DecodeProcess] = SimpleQueue()
    for helper in helpers:
        free.put(helper)

    def one(task: Task) -> Result:
        helper = free.get()
        try:
            return work(helper, task)
        finally:
            free.put(helper)

    executor = ThreadPoolExecutor(processes)
    try:
        for future in as_completed([executor.submit(one, task) for task in tasks]):
            yield future.result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        for helper in helpers:
            helper.close()
        executor.shutdown()


_processes: weakref.WeakSet[DecodeProcess] = weakref.WeakSet()
_helper: DecodeProcess | None = None


def _helper_of_this_process() -> DecodeProcess:
    global _helper
    if _helper is None:
        _helper = DecodeProcess()
    return _helper


def _close_all() -> None:
    for process in list(_processes):
        process.close()


def _forget_all() -> None:
    for process in list(_processes):
        process._forget()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)

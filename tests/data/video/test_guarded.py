import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_data import index_of

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video import guarded
from evlvideo.data.video.decode import decode_frames
from evlvideo.data.video.guarded import DecodeProcess, decode_frames_guarded
from evlvideo.errors import UserError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the helper process is for POSIX")

STUB = """
import os, signal, time
from evlvideo.data.video import decode_server

class Server(decode_server.Server):
    def read(self, chosen, size, keep_aspect, backend):
        if backend == "sleep":
            time.sleep(60)
        if backend == "slow":
            for _ in range(20):
                time.sleep(0.1)
        if backend == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if backend == "exit":
            os._exit(3)
        if backend == "raise":
            raise KeyError("no such thing")
        return super().read(chosen, size, keep_aspect, "auto")

def serve(handle):
    decode_server.Server = Server
    decode_server.GRACE_SECONDS = 0.5
    decode_server.serve(handle)
"""


def fixed(*indices: int) -> Any:
    return lambda frames, rate: list(indices)


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DecodeProcess]:
    """A helper whose decoder misbehaves where the backend is called so."""
    (tmp_path / "misbehaving.py").write_text(STUB)
    monkeypatch.syspath_prepend(str(tmp_path))
    process = DecodeProcess("misbehaving")
    monkeypatch.setattr(guarded, "_helper", process)
    yield process
    process.close()


def test_frames_are_those_decoded_here(clip: Path, helper: DecodeProcess) -> None:
    ours = decode_frames(clip, fixed(3, 20, 3), 32)
    theirs = decode_frames_guarded(clip, fixed(3, 20, 3), 32)
    assert np.array_equal(ours.frames, theirs.frames)
    assert np.array_equal(ours.timestamps_seconds, theirs.timestamps_seconds)
    assert (ours.indices, ours.metadata, ours.backend) == (theirs.indices, theirs.metadata, theirs.backend)


def test_arguments_reach_the_decoder(clip: Path, helper: DecodeProcess) -> None:
    decoded = decode_frames_guarded(
        clip, fixed(0, 1), 32, keep_aspect=True, start_seconds=1.0, end_seconds=1.5, backend="pyav"
    )
    assert decoded.frames.shape == (2, 32, 40, 3)
    assert decoded.indices == (12, 13)


def test_one_helper_serves_one_clip_after_another(clip: Path, helper: DecodeProcess) -> None:
    decode_frames_guarded(clip, fixed(0), 32)
    first = helper.pid
    decode_frames_guarded(clip, fixed(1), 32)
    assert helper.pid == first


def test_a_decoder_that_hangs_is_given_up(clip: Path, helper: DecodeProcess) -> None:
    decode_frames_guarded(clip, fixed(0), 32)
    started = time.monotonic()
    with pytest.raises(DecodeError, match=r"clip\.mp4 cannot be decoded: timed out after 0\.5 s"):
        decode_frames_guarded(clip, fixed(0), 32, backend="sleep", time_limit_seconds=0.5)
    assert time.monotonic() - started < 5
    assert index_of(decode_frames_guarded(clip, fixed(7), 32).frames[0]) == 7


@pytest.mark.parametrize(("how", "reason"), [("crash", "crashed with SIGSEGV"), ("exit", "ended with status 3")])
def test_a_decoder_that_crashes_costs_one_clip(clip: Path, helper: DecodeProcess, how: str, reason: str) -> None:
    with pytest.raises(DecodeError, match=rf"clip\.mp4 cannot be decoded: the decoder {reason}"):
        decode_frames_guarded(clip, fixed(0), 32, backend=how)
    assert index_of(decode_frames_guarded(clip, fixed(7), 32).frames[0]) == 7


def test_a_helper_that_was_ended_in_between_is_started_anew(clip: Path, helper: DecodeProcess) -> None:
    decode_frames_guarded(clip, fixed(0), 32)
    assert helper.pid is not None
    os.kill(helper.pid, signal.SIGKILL)
    os.waitid(os.P_PID, helper.pid, os.WEXITED | os.WNOWAIT)
    assert index_of(decode_frames_guarded(clip, fixed(7), 32).frames[0]) == 7


def test_whatever_a_decoder_raises_costs_one_clip(clip: Path, helper: DecodeProcess) -> None:
    with pytest.raises(DecodeError, match=r"clip\.mp4 cannot be decoded: KeyError: 'no such thing'"):
        decode_frames_guarded(clip, fixed(0), 32, backend="raise")
    assert index_of(decode_frames_guarded(clip, fixed(7), 32).frames[0]) == 7


def test_the_decoders_own_reason_comes_through(helper: DecodeProcess, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text("no video")
    with pytest.raises(DecodeError, match=r"clip\.mp4 cannot be decoded: Invalid data"):
        decode_frames_guarded(path, fixed(0), 32)


def test_a_wrong_backend_is_no_bad_clip(clip: Path) -> None:
    with pytest.raises(UserError, match="'opencv'; allowed") as caught:
        decode_frames_guarded(clip, fixed(0), 32, backend="opencv")
    assert not isinstance(caught.value, DecodeError)


def test_an_error_in_the_choice_leaves_the_helper_usable(clip: Path, helper: DecodeProcess) -> None:
    def fail(frames: int, rate: float) -> list[int]:
        raise ArithmeticError("no choice")

    with pytest.raises(ArithmeticError):
        decode_frames_guarded(clip, fail, 32)
    assert index_of(decode_frames_guarded(clip, fixed(7), 32).frames[0]) == 7


def test_a_named_pipe_is_not_waited_for(helper: DecodeProcess, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(DecodeError, match="is not a file"):
        decode_frames_guarded(tmp_path / "clip.mp4", fixed(0), 32, time_limit_seconds=20)


SUSPENDED = """
import os, sys, time
from pathlib import Path
from evlvideo.data.video import guarded
guarded._helper = guarded.DecodeProcess("misbehaving")
arguments = Path(sys.argv[1]), lambda frames, rate: [9], 32
guarded.decode_frames_guarded(*arguments)
print("ready", flush=True)
print(guarded.decode_frames_guarded(*arguments, backend="slow", time_limit_seconds=3).indices, flush=True)
"""


def test_a_suspended_job_marks_no_clip_as_bad(clip: Path, helper: DecodeProcess) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", SUSPENDED, str(clip)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "ready\n"
        time.sleep(0.3)
        os.killpg(job.pid, signal.SIGSTOP)
        time.sleep(5)
        os.killpg(job.pid, signal.SIGCONT)
        output, errors = job.communicate(timeout=60)
    assert output == "(9,)\n", errors


def test_a_helper_that_ends_while_starting_is_started_again(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "killed.py").write_text(
        "import os, pathlib\n"
        f"tries = pathlib.Path({str(tmp_path / 'tries')!r})\n"
        "tries.open('a').write('x')\n"
        "if len(tries.read_text()) < 3: os.kill(os.getpid(), 9)\n"
        "from evlvideo.data.video.decode_server import serve\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(guarded, "PAUSES_SECONDS", (0.0, 0.0, 0.0))
    process = DecodeProcess("killed")
    monkeypatch.setattr(guarded, "_helper", process)
    assert index_of(decode_frames_guarded(clip, fixed(7), 32).frames[0]) == 7
    assert (tmp_path / "tries").read_text() == "xxx"
    assert caplog.text.count("it is started again") == 2
    process.close()


def test_a_helper_that_does_not_start_is_no_bad_clip(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guarded, "PAUSES_SECONDS", (0.0,))
    monkeypatch.setattr(guarded, "_helper", DecodeProcess("no_such_module"))
    with pytest.raises(UserError, match="does not start") as caught:
        decode_frames_guarded(clip, fixed(0), 32)
    assert not isinstance(caught.value, DecodeError)


def _decode_elsewhere(path: Path, results: Any) -> None:
    frames = decode_frames_guarded(path, fixed(9), 32).frames
    results.put((index_of(frames[0]), guarded._helper.pid))  # type: ignore[union-attr]


def test_a_forked_process_has_a_helper_of_its_own(clip: Path, helper: DecodeProcess) -> None:
    decode_frames_guarded(clip, fixed(0), 32)
    context = get_context("fork")
    results = context.Queue()
    process = context.Process(target=_decode_elsewhere, args=(clip, results))
    process.start()
    number, pid = results.get(timeout=60)
    process.join(30)
    assert (number, process.exitcode) == (9, 0)
    assert pid != helper.pid
    assert index_of(decode_frames_guarded(clip, fixed(7), 32).frames[0]) == 7
    assert _is_gone(pid)


PROGRAM = """
import os, sys
from pathlib import Path
from evlvideo.data.video import guarded
guarded.decode_frames_guarded(Path(sys.argv[1]), lambda frames, rate: [0], 32)
print(guarded._helper.pid, flush=True)
if sys.argv[2] == "kill":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("end", ["return", "kill"])
def test_the_helper_ends_with_the_process_that_it_helps(clip: Path, end: str) -> None:
    command = [sys.executable, "-c", PROGRAM, str(clip), end]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert _is_gone(int(result.stdout))


ORPHAN = """
import os, sys, threading
from pathlib import Path
from evlvideo.data.video import guarded
guarded._helper = guarded.DecodeProcess("misbehaving")
arguments = Path(sys.argv[1]), lambda frames, rate: [0], 32
guarded.decode_frames_guarded(*arguments)
print(guarded._helper.pid, flush=True)
threading.Timer(0.3, lambda: os.kill(os.getpid(), 9)).start()
guarded.decode_frames_guarded(*arguments, backend="sleep", time_limit_seconds=1)
"""


def test_a_helper_that_hangs_ends_without_its_parent(clip: Path, helper: DecodeProcess) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", ORPHAN, str(clip)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert result.returncode == -signal.SIGKILL
    assert _is_gone(int(result.stdout))


def test_the_helper_imports_no_torch() -> None:
    code = "import sys, evlvideo.data.video.decode_server; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment).returncode == 0


def _is_gone(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        # One that ended and waits for its parent is gone as well.
        status = Path(f"/proc/{pid}/stat")
        if status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False

"""Run parts in separate processes, so that one that fails, hangs or exhausts memory does not affect the others."""

import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

IMPORTED_ONCE = ["evlvideo.training.run", "evlvideo.estimate.costs", "torch.profiler"]
"""Imported once for all parts, since importing takes longer than most parts."""
_TOLD = 1500
"""Number of last characters of a failed part's output to keep."""
_POLL_SECONDS = 0.05


@dataclass
class Part:
    """A running part.

    Args:
        name: name of a module of this package.
        size: name of a size.
        directory: directory of its findings and its terminal output.
        limit_seconds: time after which it is stopped.
    """

    name: str
    size: str
    directory: Path
    limit_seconds: float

    def __post_init__(self) -> None:
        # The server has imported the libraries but never touched the GPU.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED_ONCE)
        self._started = time.monotonic()
        arguments = (self.name, self.size, str(self._notes), str(self._terminal))
        self._process: ForkServerProcess = context.Process(target=_run, args=arguments)
        self._process.start()

    @property
    def _notes(self) -> Path:
        return self.directory / f"{self.name}.json"

    @property
    def _terminal(self) -> Path:
        return self.directory / f"{self.name}.log"

    def result(self) -> dict[str, Any]:
        """Wait for the end or the limit; findings until then are kept."""
        ends = self._started + self.limit_seconds
        while self._process.is_alive() and time.monotonic() < ends:
            time.sleep(_POLL_SECONDS)
        late = self._process.is_alive()
        self.stop()
        result: dict[str, Any] = {"state": "done", "seconds": time.monotonic() - self._started}
        if late:
            result |= {"state": "cut off", "reason": f"its limit of {self.limit_seconds:.0f} s was over"}
        elif self._process.exitcode:
            result |= {"state": "failed", "reason": self._last_words()}
        return result | {"found": self._found()}

    def stop(self) -> None:
        """End it and the processes that it started."""
        if self._process.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.join()

    def _found(self) -> dict[str, Any]:
        return json.loads(self._notes.read_text(encoding="utf-8")) if self._notes.exists() else {}

    def _last_words(self) -> str:
        said = self._terminal.read_text(encoding="utf-8", errors="replace") if self._terminal.exists() else ""
        return f"exit status {self._process.exitcode}: {said.strip()[-_TOLD:]}"


def _run(name: str, size: str, notes: str, terminal: str) -> None:
    """Run one part as the leader of a process group that can be ended together."""
    os.setsid()
    with Path(terminal).open("w", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        part = importlib.import_module(f"gpu_parts.{name}")
        sizes, measure = importlib.import_module("gpu_parts.sizes"), importlib.import_module("gpu_parts.measure")
        part.run(sizes.SIZES[size], measure.Notes(Path(notes)))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)

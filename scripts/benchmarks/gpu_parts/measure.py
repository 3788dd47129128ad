"""Notes of a part, written after each case, and seconds and memory of what runs on a device."""

import gc
import statistics
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from evlvideo.files import write_json

GIB = 2**30


class Notes:
    """What a part found so far, in a file that is whole at every moment.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Any] = {}

    def add(self, case: str, found: Any) -> None:
        """Write a case down."""
        self._found[case] = found
        write_json(self._path, self._found)

    def measure(self, case: str, run: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        """Write down what `run` finds, or why it could not: memory that is not there, a kernel that is missing."""
        try:
            found = run(*arguments, **named)
        except Exception as error:  # whatever it is, the next case may go
            traceback.print_exc()
            found = {"failed": f"{type(error).__name__}: {str(error).strip()[:500]}"}
        # A traceback holds the tensors of the frames that it names.
        free_memory()
        self.add(case, found)


def free_memory() -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def synchronize() -> None:
    """Wait until the device has done what was asked of it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(run: Callable[[], Any], *, warmup: int, repeats: int) -> dict[str, Any]:
    """Seconds of single runs, each waited for."""
    seconds = []
    for place in range(warmup + repeats):
        synchronize()
        started = time.perf_counter()
        run()
        synchronize()
        if place >= warmup:
            seconds.append(time.perf_counter() - started)
    return summary(seconds)


def summary(seconds: list[float]) -> dict[str, Any]:
    """Seconds with their median."""
    return {"median_seconds": statistics.median(seconds), "seconds": seconds}


def start_of_peak() -> None:
    """Measure the peak of memory from here."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> dict[str, float | None]:
    """The most that tensors held, and the most that the allocator took, in GiB; nothing on a CPU."""
    if not torch.cuda.is_available():
        return {"peak_gib": None, "reserved_gib": None}
    return {
        "peak_gib": torch.cuda.max_memory_allocated() / GIB,
        "reserved_gib": torch.cuda.max_memory_reserved() / GIB,
    }

"""Record a part's findings after each case, and measure seconds and memory on a device."""

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
    """Findings of a part so far, in a file that is complete at any time.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Any] = {}

    def add(self, case: str, found: Any) -> None:
        """Record a case."""
        self._found[case] = found
        write_json(self._path, self._found)

    def measure(self, case: str, run: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        """Record what `run` finds, or why it failed, such as missing memory or a missing kernel."""
        try:
            found = run(*arguments, **named)
        except Exception as error:  # whatever it is, the next case may work
            traceback.print_exc()
            found = {"failed": f"{type(error).__name__}: {str(error).strip()[:500]}"}
        # A traceback keeps the tensors in its stack frames alive.
        free_memory()
        self.add(case, found)


def free_memory() -> None:
    """Free unreferenced memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def synchronize() -> None:
    """Wait until the device has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(run: Callable[[], Any], *, warmup: int, repeats: int) -> dict[str, Any]:
    """Measure the seconds of single runs, waiting for each."""
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
    """Return seconds with their median."""
    return {"median_seconds": statistics.median(seconds), "seconds": seconds}


def start_of_peak() -> None:
    """Reset the peak of memory."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> dict[str, float | None]:
    """Return the peaks of tensors and of the allocator in GiB; nothing on a CPU."""
    if not torch.cuda.is_available():
        return {"peak_gib": None, "reserved_gib": None}
    return {
        "peak_gib": torch.cuda.max_memory_allocated() / GIB,
        "reserved_gib": torch.cuda.max_memory_reserved() / GIB,
    }

"""Find where a step waits for the device.

Runs three steps: one to find code that reads a tensor's values, on any device; one for CUDA's own warnings; and one for
the profiler's counts of calls that wait, and of kernels.
"""

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.processing import EvlVideoProcessor
from gpu_parts.generated import make_processor, random_captioner
from gpu_parts.measure import Notes, free_memory
from gpu_parts.sizes import FORMS, Size
from gpu_parts.steps import Steps, make_trainer

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT / "tests" / "helpers"))

from sync_counter import SyncCounter  # noqa: E402

_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
_COPIES = "Memcpy DtoH"
_LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")


def run(size: Size, notes: Notes) -> None:
    """Examine a step of each stage."""
    model = random_captioner(size.architecture(**FORMS["video"]))
    processor = make_processor(model)
    for stage in ("caption", "scst"):
        notes.measure(stage, _of_steps, size, model, processor, stage)
        free_memory()


def _of_steps(size: Size, model: EvlVideoForCaptioning, processor: EvlVideoProcessor, stage: str) -> dict[str, Any]:
    trainer = make_trainer(size, model, processor, stage=stage, batch=size.batches[0])
    found: dict[str, Any] = {}
    looks = [_reads(found), _warnings(found), _profile(found)]
    with ExitStack() as stack:

        def look(step: int) -> bool:
            stack.close()
            if step >= size.warmup and looks:
                stack.enter_context(looks.pop(0))
                return False
            return step > size.warmup

        trainer.add_callback(Steps(look))
        trainer.train()
    return found


@contextmanager
def _reads(found: dict[str, Any]) -> Iterator[None]:
    with SyncCounter() as counter:
        yield
    found["reads"] = counter.count
    found["reads_by_place"] = dict(counter.sites.most_common())


@contextmanager
def _warnings(found: dict[str, Any]) -> Iterator[None]:
    if not torch.cuda.is_available():
        yield
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [warning for warning in caught if "synchroniz" in str(warning.message)]
    found["warnings"] = len(waits)
    places = Counter(f"{Path(warning.filename).name}:{warning.lineno}" for warning in waits)
    found["warnings_by_place"] = dict(places.most_common())


@contextmanager
def _profile(found: dict[str, Any]) -> Iterator[None]:
    if not torch.cuda.is_available():
        yield
        return
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        yield
    counts = {event.key: event.count for event in profiler.key_averages()}
    found["calls_that_wait"] = {name: counts.get(name, 0) for name in _WAITS}
    found["copies_to_cpu"] = sum(count for name, count in counts.items() if name.startswith(_COPIES))
    found["kernels_launched"] = sum(counts.get(name, 0) for name in _LAUNCHES)

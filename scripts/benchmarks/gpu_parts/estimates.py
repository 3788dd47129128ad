"""Estimate the steps and captions that the other parts measure, as `evlvideo estimate` does."""

from dataclasses import asdict
from typing import Any

from evlvideo.estimate.costs import estimate, multiply_adds
from evlvideo.estimate.records import Estimate, Workload
from gpu_parts.measure import GIB, Notes
from gpu_parts.sizes import FORMS, TEXT_TOKENS, Size, precision


def run(size: Size, notes: Notes) -> None:
    """Record estimates under the names that cases refer to."""
    for form in FORMS:
        for batch in size.batches:
            notes.measure(f"training, {form}, {batch} clips", _of_training, size, form, batch)
    for form in ("image", "video"):
        for batch in size.batches:
            notes.measure(f"self-critical, {form}, {batch} clips", _of_self_critical, size, form, batch)
    for beams in (size.beams, 1):
        notes.measure(f"captioning, video, {beams} beams", _of_captioning, size, beams)


def _estimate(size: Size, form: str, batch: int, **changes: Any) -> Estimate:
    return estimate(size.architecture(**FORMS[form]), _workload(size, batch, **changes))


def _workload(size: Size, batch: int, **changes: Any) -> Workload:
    asked: dict[str, Any] = {
        "num_frames": size.frames,
        "batch_size": batch,
        "captions_per_clip": 1,
        "text_tokens": TEXT_TOKENS,
        "num_beams": 1,
        "new_tokens": 1,
        "precision": precision(),
    }
    return Workload(**{**asked, **changes})


def _of_training(size: Size, form: str, batch: int) -> dict[str, Any]:
    found = _estimate(size, form, batch)
    by_part = asdict(found.training_batch)
    return {"multiply_adds": found.training_batch.total, "by_part": by_part, "gib": found.memory.total / GIB}


def _of_self_critical(size: Size, form: str, batch: int) -> dict[str, Any]:
    """Estimate sampling all captions and the greedy one of each clip, and the pass over all samples."""
    found = _estimate(
        size,
        form,
        batch,
        captions_per_clip=size.samples,
        text_tokens=size.new_tokens,
        samples=size.samples,
        sample_tokens=size.new_tokens,
    )
    assert found.sampling_clip is not None
    drawing = batch * found.sampling_clip.total
    return {"multiply_adds": drawing + found.training_batch.total, "drawing": drawing, "gib": found.memory.total / GIB}


def _of_captioning(size: Size, beams: int) -> dict[str, Any]:
    """Estimate captioning all clips."""
    workload = _workload(size, 1, num_beams=beams, new_tokens=size.new_tokens)
    found = multiply_adds(size.architecture(**FORMS["video"]), workload)
    return {"multiply_adds": size.clips * found.captioning_clip.total, "by_part": asdict(found.captioning_clip)}

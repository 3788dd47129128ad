"""Measure copying a batch of frames to the device: as bytes, normalised there, or as floats, normalised before."""

from typing import Any

import torch
from torch import Tensor

from gpu_parts.measure import Notes, seconds_of
from gpu_parts.sizes import Size, device

_MEAN, _STD = 0.45, 0.27


def run(size: Size, notes: Notes) -> None:
    """Measure both dtypes, from pinned and from pageable memory."""
    image_size = (size.changes.get("vision_overrides") or {}).get("img_size", 224)
    frames = torch.randint(0, 256, (size.batches[1], size.frames, 3, image_size, image_size), dtype=torch.uint8)
    for kind, batch in (("uint8", frames), ("float32", _normalised(frames))):
        notes.measure(f"{kind}, pageable", _move, size, batch)
        if torch.cuda.is_available():
            notes.measure(f"{kind}, pinned", _move, size, batch.pin_memory())
    on_device = frames.to(device())
    notes.measure("normalising on the device", _timed, size, lambda: _normalised(on_device))


def _move(size: Size, batch: Tensor) -> dict[str, Any]:
    found = _timed(size, lambda: batch.to(device(), non_blocking=True, copy=True))
    bytes_moved = batch.numel() * batch.element_size()
    return {"bytes": bytes_moved, "gb_per_second": bytes_moved / found["median_seconds"] / 1e9, **found}


def _timed(size: Size, move: Any) -> dict[str, Any]:
    return seconds_of(move, warmup=size.warmup, repeats=2 * size.repeats)


def _normalised(frames: Tensor) -> Tensor:
    """Do the work of normalising by each channel's mean and standard deviation."""
    return (frames / 255 - _MEAN) / _STD

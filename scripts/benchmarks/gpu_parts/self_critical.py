"""Measure a self-critical step: samples captions, scores them by CIDEr-D on the CPU, and trains on them."""

from typing import Any

from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.processing import EvlVideoProcessor
from gpu_parts.generated import make_processor, random_captioner
from gpu_parts.measure import Notes, free_memory
from gpu_parts.sizes import FORMS, Size
from gpu_parts.steps import make_trainer, measure_steps


def run(size: Size, notes: Notes) -> None:
    """Measure the image form and the video form, with few clips and with many."""
    for form in ("image", "video"):
        model = random_captioner(size.architecture(**FORMS[form]))
        processor = make_processor(model)
        for batch in size.batches:
            notes.measure(f"{form}, {batch} clips", step, size, form, model, processor, batch)
        del model
        free_memory()


def step(
    size: Size, form: str, model: EvlVideoForCaptioning, processor: EvlVideoProcessor, batch: int
) -> dict[str, Any]:
    """Measure a step, and name its estimate."""
    trainer = make_trainer(size, model, processor, stage="scst", batch=batch)
    estimate = f"self-critical, {form}, {batch} clips"
    return {"clips": batch, "samples": size.samples, "estimate": estimate, **measure_steps(size, trainer)}

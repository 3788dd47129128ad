"""Measure seconds and memory of a cross-entropy step of each form, with and without gradient checkpointing."""

from typing import Any

from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.models.processing import EvlVideoProcessor
from gpu_parts.generated import make_processor, random_captioner
from gpu_parts.measure import Notes, free_memory
from gpu_parts.sizes import FORMS, Size
from gpu_parts.steps import make_trainer, measure_steps


def run(size: Size, notes: Notes) -> None:
    """Measure the published batch, a larger one, and the larger one with gradient checkpointing."""
    few, many = size.batches
    for form, changes in FORMS.items():
        model = random_captioner(size.architecture(**changes))
        processor = make_processor(model)
        for batch in (few, many):
            notes.measure(f"{form}, {batch} clips", step, size, form, model, processor, batch)
        # Last, since checkpointing stays enabled in the model.
        case = f"{form}, {many} clips, checkpointing"
        notes.measure(case, step, size, form, model, processor, many, gradient_checkpointing=True)
        del model
        free_memory()


def step(
    size: Size, form: str, model: EvlVideoForCaptioning, processor: EvlVideoProcessor, batch: int, **arguments: Any
) -> dict[str, Any]:
    """Measure a step, and name its estimate."""
    trainer = make_trainer(size, model, processor, stage="caption", batch=batch, **arguments)
    return {"clips": batch, "estimate": f"training, {form}, {batch} clips", **measure_steps(size, trainer)}

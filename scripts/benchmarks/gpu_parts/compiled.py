"""Measure a cross-entropy step compiled by torch: how long compiling takes, and what it gains."""

from gpu_parts.generated import make_processor, random_captioner
from gpu_parts.measure import Notes, free_memory
from gpu_parts.sizes import FORMS, Size
from gpu_parts.training import step


def run(size: Size, notes: Notes) -> None:
    """Measure each form with the larger batch while time remains: compiling takes minutes."""
    batch = size.batches[1]
    for form, changes in FORMS.items():
        model = random_captioner(size.architecture(**changes))
        processor = make_processor(model)
        case, backend = f"{form}, {batch} clips, compiled", size.compile_backend
        notes.measure(
            case, step, size, form, model, processor, batch, torch_compile=True, torch_compile_backend=backend
        )
        del model
        free_memory()

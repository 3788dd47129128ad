"""Which steps a connector takes, and the tokens that come out of each."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from evlvideo.models.captioner import EvlVideoForCaptioning

_LISTS = (nn.ModuleList, nn.Sequential)

TOWER = "vision_tower"
PROMPT = "language_projection"
"""The last step, whose output is the soft prompt."""


def steps_of(model: EvlVideoForCaptioning) -> dict[str, nn.Module]:
    """Name the steps from the tower's output to the soft prompt.

    Those of the connector are the layers of its lists, and the modules with weights beside them. A connector without
    weights is one step.
    """
    inside = dict(_steps(model.connector, "connector")) or {"connector": model.connector}
    return {"ln_vision": model.ln_vision, **inside, PROMPT: model.language_projection}


def _steps(part: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    for own, child in part.named_children():
        path = f"{name}.{own}"
        has_layers = any(isinstance(module, _LISTS) for module in child.modules())
        if has_layers and not isinstance(part, _LISTS):
            yield from _steps(child, path)
        elif any(True for _ in child.parameters()):
            yield path, child


@contextmanager
def outputs_of(steps: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Collect the output of each step while the model runs, by name and in the order of computation.

    By hooks: every connector runs its layers in a `forward` of its own, and running them from outside would repeat all
    of these. A step that runs twice is known by its last output.
    """
    outputs: dict[str, Tensor] = {}

    def note(name: str, module: nn.Module, arguments: Any, output: Any) -> None:
        found = output[0] if isinstance(output, tuple) else output
        if isinstance(found, Tensor):
            outputs[name] = found

    handles = [module.register_forward_hook(partial(note, name)) for name, module in steps.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def by_clip(output: Tensor, clips: int) -> Tensor | None:
    """Sort the tokens of a step by clip: `(B·T, N, C)` or `(B, …, C)` → `(B, N of all frames, C)`.

    Returns:
        None for an output that is not of the clips, as that of learned queries before they look at any.
    """
    if output.dim() < 3 or len(output) % clips:
        return None
    return output.reshape(clips, -1, output.shape[-1])

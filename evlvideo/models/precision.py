"""The dtype of a captioner's computation: that of its frozen towers.

Trained weights are in float32, those of towers too, so that no step is lost to rounding. A
model enters autocast to its towers' dtype by itself and overrides its caller's, so that training, validation,
captioning and attention maps compute the same soft prompt from the same frames, bit for bit.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_HALF = (torch.bfloat16, torch.float16)


def autocast_by(weight: Tensor, dtype: torch.dtype | None = None) -> AbstractContextManager[Any]:
    """Autocast to the dtype of a weight, on its device, if that is half precision; else switch autocast off.

    Args:
        weight: a tower's.
        dtype: what the tower computes in, if its weights are trained and so in float32. Defaults to that of `weight`.
    """
    if weight.is_meta:  # as in estimates
        return nullcontext()
    device, dtype = weight.device.type, dtype or weight.dtype
    wanted, on = dtype in _HALF, torch.is_autocast_enabled(device)
    grad = torch.is_grad_enabled()
    if wanted == on and (not on or (grad and torch.get_autocast_dtype(device) == dtype)):
        return nullcontext()
    # Autocast caches its copies of trained weights until the outermost context ends. torch before 2.11 would use
    # one made without gradient in a later pass that needs it.
    return torch.autocast(device, dtype if wanted else None, enabled=wanted, cache_enabled=grad)


def in_float32(device: torch.device) -> AbstractContextManager[Any]:
    """Switch autocast off on a device. The meta device, as in estimates, has none."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


class _HasAutocast(Protocol):
    def autocast(self) -> AbstractContextManager[Any]: ...


_Model = TypeVar("_Model", bound=_HasAutocast)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def in_own_precision(
    method: Callable[Concatenate[_Model, _Arguments], _Result],
) -> Callable[Concatenate[_Model, _Arguments], _Result]:
    """Run a method of a model in the model's own `autocast`."""

    @wraps(method)
    def run(self: _Model, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with self.autocast():
            return method(self, *args, **kwargs)

    return run


class Float32LayerNorm(nn.LayerNorm):
    """A layer norm that computes and returns float32, whatever its input."""

    def forward(self, x: Tensor) -> Tensor:
        """`(…, D)` → `(…, D)`."""
        with in_float32(x.device):
            return F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)

"""The type that a captioner computes in: the one in which its frozen towers are kept.

Frozen towers are kept in the type that they compute in, what is trained is kept in float32. A model enters autocast by
itself, by the towers' type, so that all that runs it (training, validation, captioning, pictures) computes the same
soft prompt from the same frames, bit for bit, and no caller has to know. What a caller's own autocast asks for is not
followed.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_HALF = (torch.bfloat16, torch.float16)


def autocast_by(weight: Tensor) -> AbstractContextManager[Any]:
    """Autocast to the type of a frozen weight, on its device; no autocast where that is not a half-precision one."""
    device, dtype = weight.device.type, weight.dtype
    wanted, on = dtype in _HALF, torch.is_autocast_enabled(device)
    grad = torch.is_grad_enabled()
    if wanted == on and (not on or (grad and torch.get_autocast_dtype(device) == dtype)):
        return nullcontext()
    # Autocast keeps its copies of trained weights until the outermost context ends. One that was made without gradient
    # would be given to a later pass that needs it, by torch before 2.11.
    return torch.autocast(device, dtype if wanted else None, enabled=wanted, cache_enabled=grad)


def in_float32(device: torch.device) -> AbstractContextManager[Any]:
    """No autocast on a device; there is none to switch off where tensors have no values, as in estimates."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


class _HasAutocast(Protocol):
    def autocast(self) -> AbstractContextManager[Any]: ...


_Model = TypeVar("_Model", bound=_HasAutocast)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def in_own_precision(
    method: Callable[Concatenate[_Model, _Arguments], _Result],
) -> Callable[Concatenate[_Model, _Arguments], _Result]:
    """Let a method of a model run in the model's own `autocast`."""

    @wraps(method)
    def run(self: _Model, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        with self.autocast():
            return method(self, *args, **kwargs)

    return run


class Float32LayerNorm(nn.LayerNorm):
    """A layer norm that computes in float32 whatever it is given, and returns float32."""

    def forward(self, x: Tensor) -> Tensor:
        """`(…, D)` → `(…, D)`."""
        with in_float32(x.device):
            return F.layer_norm(x.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)

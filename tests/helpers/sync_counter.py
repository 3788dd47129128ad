"""Counts where a program waits for the device: wherever Python is given a value of a tensor.

On a GPU each of them makes the program stand still until all that was asked of the GPU is done. On a CPU they cost
nothing and can be counted all the same, so that a test without a GPU tells how many a step has on one. What is in the
memory of the CPU on a GPU's machine too, such as a batch before it is moved, is counted as well.
"""

import sys
from collections import Counter
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_TORCH = str(Path(torch.__file__).parent)
_READS = {
    torch.ops.aten._local_scalar_dense.default,  # item, bool, float, int
    torch.ops.aten.equal.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.nonzero.default,
}
_INDEXING = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default}
_READS_OF_MANY = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__}


class SyncCounter:
    """A block in which syncs are counted, as `with SyncCounter() as counter: …`; of this thread, backward included."""

    def __init__(self) -> None:
        self.sites: Counter[str] = Counter()
        """How often, by place in the code: the innermost one outside torch, as `self_critical.py:120 _note`."""
        self._modes = (_Operations(self.sites), _Functions(self.sites))

    @property
    def count(self) -> int:
        """All syncs so far."""
        return sum(self.sites.values())

    def __enter__(self) -> "SyncCounter":
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(kind, error, trace)


class _Operations(TorchDispatchMode):
    """Sees what reads single values, also from inside torch's own functions."""

    def __init__(self, sites: Counter[str]) -> None:
        super().__init__()
        self._sites = sites

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _READS or (func in _INDEXING and _has_mask(args[1])):
            self._sites[_site()] += 1
        return func(*args, **kwargs or {})


class _Functions(TorchFunctionMode):
    """Sees what reads whole tensors, which is no operation of torch's."""

    def __init__(self, sites: Counter[str]) -> None:
        super().__init__()
        self._sites = sites

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _READS_OF_MANY:
            self._sites[_site()] += 1
        return func(*args, **kwargs or {})


def _has_mask(indices: Any) -> bool:
    """Whether how much is chosen depends on a mask's values."""
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


def _site() -> str:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename.startswith(_TORCH) or frame.f_code.co_filename == __file__):
        frame = frame.f_back
    assert frame is not None
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"

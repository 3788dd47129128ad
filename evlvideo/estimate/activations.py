"""Measure the bytes that a forward pass keeps for the backward pass.

Tensors have no values and claim to be on a GPU, so that autocast follows its rules for GPUs, with or without one.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

DEVICE = "cuda"


def saved_bytes(model: nn.Module, run: Callable[[], Any], autocast: torch.dtype | None) -> int:
    """Return the bytes saved by a training pass: every storage once, without weights.

    Half-precision copies of weights that autocast makes are counted.

    Args:
        model: in training mode.
        run: runs its forward pass, and returns what the backward pass begins with.
        autocast: dtype of autocast. If None, autocast is off.
    """
    weights = {_storage_key(tensor) for tensor in (*model.parameters(), *model.buffers())}
    # What no output depends on is freed during the pass, and another storage may reuse its key.
    alive: WeakSet[_Saved] = WeakSet()

    def save(tensor: Tensor) -> _Saved:
        saved = _Saved(tensor)
        alive.add(saved)
        return saved

    with (
        _autocast(autocast),
        _FusedAttention(),
        torch.autograd.graph.saved_tensors_hooks(save, lambda saved: saved.tensor),
    ):
        output = run()
        kept = {_storage_key(saved.tensor): saved.tensor.untyped_storage().nbytes() for saved in alive}
        del output
    return sum(size for key, size in kept.items() if key not in weights)


class _Saved:
    """A tensor, for as long as the backward pass needs it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


def _storage_key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class _FusedAttention(TorchFunctionMode):
    """Use the memory-efficient kernel for every attention.

    By default, torch chooses by the GPU, and without one falls back to plain products, which keep all attention
    weights. Flash kernels keep as much as this one: queries, keys, values, output and a number a row.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return _memory_efficient_attention(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _memory_efficient_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute `F.scaled_dot_product_attention`; with `enable_gqa`, the fewer keys and values are not repeated."""
    if torch.is_autocast_enabled(DEVICE):
        dtype = torch.get_autocast_dtype(DEVICE)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    bias = None if attn_mask is None else attn_mask.to(query.dtype)
    output: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, bias, query.requires_grad, dropout_p, is_causal, scale=scale
    )[0]
    return output


@contextmanager
def _autocast(dtype: torch.dtype | None) -> Iterator[None]:
    """Enable `torch.autocast` for a GPU, which would disable itself without one."""
    if dtype is None:
        yield
        return
    before = torch.is_autocast_enabled(DEVICE), torch.get_autocast_dtype(DEVICE)
    torch.set_autocast_enabled(DEVICE, True)
    torch.set_autocast_dtype(DEVICE, dtype)
    torch.autocast_increment_nesting()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*CUDA is not available.*")
            yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled(DEVICE, before[0])
        torch.set_autocast_dtype(DEVICE, before[1])

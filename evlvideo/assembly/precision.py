"""Resolve the dtype that a run computes in on the present device."""

import torch
from accelerate.utils import parse_flag_from_env

from evlvideo.errors import UserError
from evlvideo.models.choices import PRECISIONS


def resolve_precision(precision: str) -> str:
    """Resolve `auto` to bf16 on a GPU that supports it, and to fp32 otherwise. CPUs use bf16 only on request.

    Raises:
        UserError: the device does not support the precision.
    """
    gpu = torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU")
    # Emulated bf16 would be slower than float32.
    fast_bf16 = gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    available = {"fp32": True, "fp16": gpu, "bf16": fast_bf16 or not gpu}
    if precision == "auto":
        return "bf16" if fast_bf16 else "fp32"
    if not available[precision]:
        allowed = ", ".join(["auto", *(name for name in available if available[name])])
        where = "this GPU does not have it" if gpu else "there is no GPU, which it needs"
        raise UserError(f"training.precision is {precision}, and {where}; allowed here: {allowed}.")
    return precision


DTYPES: dict[str, torch.dtype] = {name: getattr(torch, dtype) for name, dtype in PRECISIONS.items()}
"""Dtypes by the name of their precision; frozen towers are kept in the dtype that they compute in."""


def precision_of(dtype: torch.dtype) -> str:
    """Return the name of a dtype's precision."""
    return next(name for name, named in DTYPES.items() if named == dtype)

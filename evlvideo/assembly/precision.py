"""The type that a run computes in, on the device that it finds."""

import torch
from accelerate.utils import parse_flag_from_env

from evlvideo.errors import UserError


def resolve_precision(precision: str) -> str:
    """`auto` is bf16 on a GPU that has it, else fp32; bf16 that is asked for is computed on a CPU too.

    Raises:
        UserError: half precision is asked for that the GPU, or the CPU where there is none, does not have.
    """
    gpu = torch.cuda.is_available() and not parse_flag_from_env("ACCELERATE_USE_CPU")
    # Without emulation, which would be slower than float32.
    fast_bf16 = gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    available = {"fp32": True, "fp16": gpu, "bf16": fast_bf16 or not gpu}
    if precision == "auto":
        return "bf16" if fast_bf16 else "fp32"
    if not available[precision]:
        allowed = ", ".join(["auto", *(name for name in available if available[name])])
        where = "this GPU does not have it" if gpu else "there is no GPU, which it needs"
        raise UserError(f"training.precision is {precision}, and {where}; allowed here: {allowed}.")
    return precision


DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
"""Types by the name of their precision."""


def precision_of(dtype: torch.dtype) -> str:
    """The name of a tower's type."""
    return next(name for name, named in DTYPES.items() if named == dtype)

"""Describe the machine: its card, the speed of matrix products, and its software."""

import os
import platform
import subprocess
from typing import Any

import torch

from gpu_parts.measure import GIB, Notes, seconds_of
from gpu_parts.sizes import Size, device

_DENSE_BF16_TFLOPS = (
    ("B200", 2250),
    ("GH200", 989),
    ("H200", 989),
    ("H100 PCIe", 756),
    ("H100 NVL", 835),
    ("H100", 989),
    ("A100", 312),
    ("A10G", 70),
    ("A40", 150),
    ("L40S", 362),
    ("L4", 121),
    ("6000 Ada", 364),
    ("A6000", 155),
    ("RTX 5090", 210),
    ("RTX 4090", 165),
    ("RTX 3090", 71),
)
"""Part of a card's name → the manufacturer's peak for dense products in bfloat16 with float32 sums."""


def run(size: Size, notes: Notes) -> None:
    """Record the card, then measure a product of large matrices."""
    notes.measure("machine", _machine)
    notes.measure("published_tflops", published_tflops)
    notes.measure("matrix_product", _matrix_product, size.matrix)


def _machine() -> dict[str, Any]:
    found: dict[str, Any] = {
        "card": None,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": _driver(),
        "compile_threads": os.environ.get("TORCHINDUCTOR_COMPILE_THREADS"),
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "card": properties.name,
            "cards": torch.cuda.device_count(),
            "memory_gib": properties.total_memory / GIB,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
        }
    return found


def _driver() -> str | None:
    try:
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split("\n")[0].strip() or None


def published_tflops() -> float | None:
    if not torch.cuda.is_available():
        return None
    name = torch.cuda.get_device_name(0)
    return next((float(tflops) for part, tflops in _DENSE_BF16_TFLOPS if part in name), None)


def _matrix_product(rows: int) -> dict[str, Any]:
    a, b = (torch.randn(rows, rows, device=device(), dtype=torch.bfloat16) for _ in range(2))
    found = seconds_of(lambda: a @ b, warmup=5, repeats=20)
    return {"rows": rows, "tflops": 2 * rows**3 / found["median_seconds"] / 1e12, **found}

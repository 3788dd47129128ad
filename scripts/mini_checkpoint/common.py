"""Optimisation and pools of generated examples, shared by the parts of the mini checkpoint."""

import math
import random
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

T = TypeVar("T")


def warm_up_and_cosine(optimizer: Optimizer, steps: int) -> LambdaLR:
    """Make a schedule: a short linear warm-up to the optimizer's learning rate, then a cosine to zero."""
    warmup = max(1, steps // 20)

    def scale(step: int) -> float:
        return min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))

    return LambdaLR(optimizer, scale)


def muon_and_adamw(module: nn.Module, blocks: str, muon_peak: float, adamw_peak: float) -> list[Optimizer]:
    """Make Muon for the matrices whose names start with `blocks`, and AdamW for the rest: half the steps of AdamW."""
    named = [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]
    matrices = [weight for name, weight in named if name.startswith(blocks) and weight.ndim == 2]
    chosen = {id(weight) for weight in matrices}
    rest = [weight for _, weight in named if id(weight) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=muon_peak, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=adamw_peak, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def update(loss: Tensor, module: nn.Module, optimizers: list[Optimizer], schedules: list[LambdaLR]) -> None:
    """Run one step of all optimizers."""
    module.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([p for p in module.parameters() if p.requires_grad], 1.0)
    for optimizer, schedule in zip(optimizers, schedules, strict=True):
        optimizer.step()
        schedule.step()


def pooled_batches(draw: Callable[[], T], rng: random.Random, batch: int, pool: int) -> Iterator[list[T]]:
    """Yield batches from a pool that replaces half a batch each time, since a new batch costs as much as a step."""
    kept = [draw() for _ in range(max(pool, batch))]
    oldest = 0
    while True:
        yield rng.sample(kept, batch)
        for _ in range(max(1, batch // 2)):
            kept[oldest] = draw()
            oldest = (oldest + 1) % len(kept)


def rounded(values: dict[str, float]) -> dict[str, float]:
    """Round values for log lines."""
    return {name: round(value, 3) for name, value in values.items()}

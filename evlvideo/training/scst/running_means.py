"""Means of what happened in the steps since the last line of the log, over all processes."""

from collections import defaultdict

import torch
from accelerate.utils import gather_object
from torch import Tensor


class RunningMeans:
    """Sums and counts by name. What a device computes stays there until it is asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, total: Tensor | float, count: Tensor | float) -> None:
        """Add `count` values that are `total` together: scalars of one device, or numbers."""
        both = torch.stack([torch.as_tensor(value).detach().float() for value in (total, count)])
        self._sums[name] = self._sums[name] + both if name in self._sums else both

    def take(self) -> dict[str, float]:
        """The means so far over all processes, which must ask alike; then the next ones start.

        What there was nothing of has no mean and is left out.
        """
        own = {name: sums.tolist() for name, sums in self._sums.items()}
        self._sums = {}
        totals: dict[str, float] = defaultdict(float)
        counts: dict[str, float] = defaultdict(float)
        for of_process in gather_object([own]):
            for name, (total, count) in of_process.items():
                totals[name] += total
                counts[name] += count
        return {name: total / counts[name] for name, total in totals.items() if counts[name]}

"""Means over the steps since the last log line and over all processes."""

from collections import defaultdict
from collections.abc import Mapping

import torch
from accelerate.utils import gather_object
from torch import Tensor


class RunningMeans:
    """Sums and counts by name. What a device computes stays on it until the means are taken."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, total: Tensor | float, count: Tensor | float) -> None:
        """Add `count` values with the sum `total`: scalars, which stay on the device of the total, or numbers."""
        device = total.device if isinstance(total, Tensor) else None
        both = torch.stack([torch.as_tensor(value, device=device).detach().float() for value in (total, count)])
        known = self._sums.get(name)
        # Sums that were restored are on the CPU.
        self._sums[name] = both if known is None else known.to(both.device) + both

    def sums(self) -> dict[str, tuple[float, float]]:
        """Total and count by name, over all processes, all of which must call this."""
        own = {name: sums.tolist() for name, sums in self._sums.items()}
        totals: dict[str, float] = defaultdict(float)
        counts: dict[str, float] = defaultdict(float)
        for of_process in gather_object([own]):
            for name, (total, count) in of_process.items():
                totals[name] += total
                counts[name] += count
        return {name: (total, counts[name]) for name, total in totals.items()}

    def take(self) -> dict[str, float]:
        """Return the means over all processes, all of which must call this, and start anew.

        A name without values has no mean and is left out.
        """
        sums = self.sums()
        self._sums = {}
        return {name: total / count for name, (total, count) in sums.items() if count}

    def restore(self, sums: Mapping[str, tuple[float, float]]) -> None:
        """Continue from what :meth:`sums` returned; with several processes, in one of them."""
        self._sums = {name: torch.tensor(both) for name, both in sums.items()}

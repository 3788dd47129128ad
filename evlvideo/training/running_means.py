"""Means of what happened in the steps since the last line of the log, over all processes."""

from collections import defaultdict

import torch
from accelerate.utils import gather_object
from torch import Tensor


class RunningMeans:
    """Sums and counts by name. Those that the device computes stay there until they are asked for."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}
        self._on_device: dict[str, Tensor] = {}

    def add(self, name: str, total: float, count: float) -> None:
        """Add `count` values that are `total` together; of nothing there is no mean."""
        sums = self._sums.get(name, (0.0, 0.0))
        self._sums[name] = (sums[0] + total, sums[1] + count)

    def add_on_device(self, name: str, total: Tensor, count: Tensor) -> None:
        """The same with scalars on a device, which is not waited for."""
        both = torch.stack([total.detach().float(), count.detach().float()])
        before = self._on_device.get(name)
        self._on_device[name] = both if before is None else before + both

    def take(self) -> dict[str, float]:
        """The means so far, of all processes; all processes must ask alike. The next ones start anew."""
        own = dict(self._sums)
        if self._on_device:
            own |= dict(zip(self._on_device, torch.stack(list(self._on_device.values())).tolist(), strict=True))
        self._sums, self._on_device = {}, {}
        totals: dict[str, float] = defaultdict(float)
        counts: dict[str, float] = defaultdict(float)
        for of_process in gather_object([own]):
            for name, (total, count) in of_process.items():
                totals[name] += total
                counts[name] += count
        return {name: total / counts[name] for name, total in totals.items() if counts[name]}

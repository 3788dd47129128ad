"""Shuffles the frames of clips: a model whose captions stay the same ignores the order."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from evlvideo.data.loading.collate import visual_inputs


class ShuffledFrames(Dataset[dict[str, Any]]):
    """Shuffles the frames of each clip by its own permutation, the same at every call.

    Args:
        dataset: items with `pixel_values`, `(T, 3, height, width)`, or `features`, `(T, N, D)`.
        seed: seeds the permutations.
    """

    def __init__(self, dataset: Dataset[dict[str, Any]], seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return one clip with its frames shuffled."""
        item = dict(self.dataset[index])
        for name, frames in visual_inputs(item).items():
            item[name] = frames[_permutation(len(frames), self.seed + index)]
        return item


def _permutation(count: int, seed: int) -> Tensor:
    """Return a random permutation; never the identity if there is another."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(count, generator=generator)
    while count > 1 and torch.equal(order, torch.arange(count)):
        order = torch.randperm(count, generator=generator)
    return order

"""What the items of all datasets have in common: their form, and what replaces one that cannot be decoded."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from evlvideo.data.loading.transforms import Transform

MOST_DRAWS = 100
"""Items tried in place of one that cannot be decoded."""


class Clip(Protocol):
    """What an item takes of a clip."""

    @property
    def clip_id(self) -> str:
        """Its name."""
        ...

    @property
    def captions(self) -> tuple[str, ...]:
        """All of its captions."""
        ...


def clip_item(clip: Clip, caption: int | None, content: dict[str, Any]) -> dict[str, Any]:
    """Make an item.

    Args:
        clip: its clip.
        caption: index of the caption to train on. If None, the item is the clip with all of its captions.
        content: what it shows, or why it is `bad`.
    """
    item: dict[str, Any] = {"clip_id": clip.clip_id, "captions": list(clip.captions), **content}
    if caption is not None:
        item |= {"caption": clip.captions[caption], "caption_place": caption}
    return item


def transform_with_seed(transform: Transform, frames: np.ndarray, seed: int) -> Tensor:
    """Transform frames with a seed of their own, and leave torch's generators as they were."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would reseed the GPU's dropout as well.
        torch.default_generator.manual_seed(seed)
        return transform(frames)


def candidates(index: int, count: int, seed: int, walk: int) -> Iterator[int]:
    """Give an item's own index, then random others; the same in every worker and process.

    Args:
        index: of the item; a negative one counts from the end.
        count: how many items there are.
        seed: of the run.
        walk: which walk through the items it is, from 0.

    Raises:
        IndexError: there is no such item; iterating over a dataset ends with it.
    """
    if not -count <= index < count:
        raise IndexError(f"The index is {index}; there are {count} items.")
    yield index % count
    generator = np.random.default_rng([seed, walk, index % count])
    yield from generator.integers(count, size=MOST_DRAWS).tolist()

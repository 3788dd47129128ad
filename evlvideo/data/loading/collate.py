"""Items of a caption dataset to a batch."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

VISUAL_INPUTS = ("pixel_values", "features")
"""What an item and a batch show: frames, or what the vision tower made of them."""


def visual_inputs(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """What a batch shows, as arguments of the model's `encode`, `forward` and `generate`."""
    return {name: batch[name] for name in VISUAL_INPUTS if name in batch}


class TextProcessor(Protocol):
    """What a collator needs of a processor."""

    def text(self, captions: list[str]) -> dict[str, Tensor]:
        """Tokenise B captions to `input_ids`, `attention_mask` and `labels`, each of shape (B, length)."""
        ...


class CaptionCollator:
    """Stacks items of :class:`evlvideo.data.loading.caption_dataset.CaptionDataset`.

    A batch is a dict of `pixel_values` (uint8 of shape (B, frames, 3, height, width)) or, of items that have them in
    their place, `features` ((B, frames, tokens, channels)), of `clip_ids` (B names) and
    `captions` (B lists of captions), and, where items have a `caption` to train on, the processor's `input_ids`,
    `attention_mask` and `labels` of it, each of shape (B × captions_per_clip, length). Items that are marked as bad are
    left out of all that; a batch of nothing else is empty.

    Args:
        processor: tokenises captions.
        captions_per_clip: train on as many captions of a clip: the item's and those that follow it in the clip's list.
    """

    def __init__(self, processor: TextProcessor, captions_per_clip: int = 1) -> None:
        self.processor = processor
        self.captions_per_clip = captions_per_clip

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make one batch of the items."""
        items = [item for item in items if "bad" not in item]
        if not items:
            return {}
        visual = next(name for name in VISUAL_INPUTS if name in items[0])
        batch: dict[str, Any] = {
            visual: torch.stack([item[visual] for item in items]),  # (B, T, C, H, W), or (B, T, N, D)
            "clip_ids": [item["clip_id"] for item in items],
            "captions": [item["captions"] for item in items],
        }
        if "caption" in items[0]:
            batch.update(self.processor.text([caption for item in items for caption in self._targets(item)]))
        return batch

    def _targets(self, item: dict[str, Any]) -> list[str]:
        if self.captions_per_clip == 1:
            return [item["caption"]]
        captions: list[str] = item["captions"]
        first = item["caption_place"]
        return [captions[(first + place) % len(captions)] for place in range(self.captions_per_clip)]

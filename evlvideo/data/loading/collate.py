"""Items of a caption dataset to a batch."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

VISUAL_INPUTS = ("pixel_values", "features")
"""Names of what an item or a batch shows: frames, or what the vision tower made of them."""


def visual_inputs(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Select what a batch shows, as arguments of the model's `encode`, `forward` and `generate`."""
    return {name: batch[name] for name in VISUAL_INPUTS if name in batch}


def stack_visual_inputs(items: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Stack what B items show: `pixel_values` (B, T, 3, H, W) or `features` (B, T, N, D)."""
    return {name: torch.stack([item[name] for item in items]) for name in visual_inputs(items[0])}


class TextProcessor(Protocol):
    """What a collator needs of a processor."""

    def text(self, captions: list[str]) -> dict[str, Tensor]:
        """Tokenize B captions to `input_ids`, `attention_mask` and `labels`, each of shape (B, length)."""
        ...


class CaptionCollator:
    """Makes training batches of items of :class:`evlvideo.data.loading.caption_dataset.CaptionDataset`.

    A batch is a dict of `pixel_values` (uint8, (B, T, 3, H, W)) or `features` ((B, T, N, D)), `clip_ids` (B names) and
    `captions` (B lists of captions). If items have a `caption` to train on, it also has the processor's `input_ids`,
    `attention_mask` and `labels`, each of shape (B × captions_per_clip, length).

    Args:
        processor: tokenizes captions.
        captions_per_clip: how many captions of a clip to train on: the item's and those that follow it in the list.
    """

    def __init__(self, processor: TextProcessor, captions_per_clip: int = 1) -> None:
        self.processor = processor
        self.captions_per_clip = captions_per_clip

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make one batch."""
        batch: dict[str, Any] = {
            **stack_visual_inputs(items),
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
        return [captions[(first + offset) % len(captions)] for offset in range(self.captions_per_clip)]

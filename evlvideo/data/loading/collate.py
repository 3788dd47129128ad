"""Collate items of a caption dataset into batches."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

VISUAL_INPUTS = ("pixel_values", "features")
"""Visual inputs of an item or a batch: frames, or their features."""


def visual_inputs(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Select a batch's visual inputs, as arguments of the model's `encode`, `forward` and `generate`."""
    return {name: batch[name] for name in VISUAL_INPUTS if name in batch}


def stack_visual_inputs(items: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Stack the visual inputs of B items: `pixel_values` (B, T, 3, H, W) or `features` (B, T, N, D)."""
    return {name: torch.stack([item[name] for item in items]) for name in visual_inputs(items[0])}


class TextProcessor(Protocol):
    """The part of a processor that a collator uses."""

    def text(self, captions: list[str]) -> dict[str, Tensor]:
        """Tokenize B captions to `input_ids`, `attention_mask` and `labels`, each of shape (B, length)."""
        ...


class AnswerTexts(Protocol):
    """Tokenizes answers behind their questions, and captions beside them."""

    def __call__(self, captions: list[str], questions: list[str | None]) -> dict[str, Tensor]:
        """Tokenize B captions or answers, as :meth:`TextProcessor.text` does; a caption has no question."""
        ...


class CaptionCollator:
    """Collates items of :class:`evlvideo.data.loading.caption_dataset.CaptionDataset` into training batches.

    A batch is a dict of `pixel_values` (uint8, (B, T, 3, H, W)) or `features` ((B, T, N, D)), `clip_ids` (B ids) and
    `captions` (B lists of captions). If items have a `caption` to train on, it also has the processor's `input_ids`,
    `attention_mask` and `labels`, each of shape (B × captions_per_clip, length).

    Args:
        processor: tokenizes captions.
        captions_per_clip: captions of a clip to train on: the item's, and the next ones in the clip's list.
        sentences: makes further tensors of the B captions that items have, for what else reads them. If None, there are
            none.
        answers: tokenizes batches in which some items have a `question`. If None, items have none.
    """

    def __init__(
        self,
        processor: TextProcessor,
        captions_per_clip: int = 1,
        *,
        sentences: Callable[[list[str]], dict[str, Tensor]] | None = None,
        answers: AnswerTexts | None = None,
    ) -> None:
        self.processor = processor
        self.captions_per_clip = captions_per_clip
        self.sentences = sentences
        self.answers = answers

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make one batch."""
        batch: dict[str, Any] = {
            **stack_visual_inputs(items),
            "clip_ids": [item["clip_id"] for item in items],
            "captions": [item["captions"] for item in items],
        }
        if "caption" in items[0]:
            batch.update(self._text(items))
            if self.sentences is not None:
                batch.update(self.sentences([item["caption"] for item in items]))
        return batch

    def _text(self, items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        captions = [caption for item in items for caption in self._targets(item)]
        if not any("question" in item for item in items):
            return self.processor.text(captions)
        assert self.answers is not None, "items have questions"
        return self.answers(captions, [item.get("question") for item in items for _ in range(self.captions_per_clip)])

    def _targets(self, item: dict[str, Any]) -> list[str]:
        if self.captions_per_clip == 1:
            return [item["caption"]]
        captions: list[str] = item["captions"]
        first = item["caption_place"]
        return [captions[(first + offset) % len(captions)] for offset in range(self.captions_per_clip)]

"""Collates items of a caption dataset into pairs of an image and a text."""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from evlvideo.data.loading.collate import stack_visual_inputs
from evlvideo.models.representation.texts import PairTokenizer

CLIPS = "clips"


class PairCollator:
    """Collates `B` items into a batch: their visual inputs, `clip_ids`, and a text of each.

    The text, as `text_ids` and `text_mask`, `(B, L)`, is the caption that the item trains on, or the clip's first. A
    number for each clip id is in `clips`, `(B,)`.

    Args:
        tokenizer: of the texts.
    """

    def __init__(self, tokenizer: PairTokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Make one batch."""
        ids = [item["clip_id"] for item in items]
        texts = [item.get("caption") or next(iter(item["captions"]), "") for item in items]
        return {**stack_visual_inputs(items), **self.tokenizer(texts), CLIPS: clip_numbers(ids), "clip_ids": ids}


def clip_numbers(clip_ids: Sequence[str]) -> Tensor:
    """Map clip ids to numbers, `(B,)`, the same in all processes."""
    digests = (hashlib.blake2b(clip_id.encode(), digest_size=8).digest() for clip_id in clip_ids)
    return torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in digests])

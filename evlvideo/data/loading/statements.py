"""Statements with their decoded images, as a torch dataset."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import Dataset

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.statements.statement import Statement
from evlvideo.data.loading.caption_dataset import CaptionDataset
from evlvideo.data.loading.items import MOST_DRAWS, candidates
from evlvideo.data.loading.transforms import Transform
from evlvideo.data.media.errors import DecodeError

logger = logging.getLogger(__name__)


class StatementDataset(Dataset[dict[str, Any]]):
    """Statements about as many images each.

    An item is a dict of `clip_id` (the statement's id), `pixel_values` (uint8, `(images, 3, height, width)`), `caption`
    (the sentence) and `label`. What is random in an item depends on the seed, the walk and the item's index alone.

    Args:
        statements: of one task; at least one.
        image_size: side in pixels.
        transform: see :mod:`evlvideo.data.loading.transforms`; each image has its own crop and flip.
        seed: seed of the run.
        resample: replace a statement whose image cannot be decoded by another one, and log it. If False, raise.

    Raises:
        UserError: there are no statements.
    """

    def __init__(
        self, statements: Sequence[Statement], *, image_size: int, transform: Transform, seed: int, resample: bool
    ) -> None:
        self._seed, self._resample = seed, resample
        # In tensors, which the workers of a loader share.
        self._labels = torch.tensor([statement.label for statement in statements])
        count = len(statements[0].images) if statements else 1
        self._sides = [
            CaptionDataset(
                [CaptionedClip(one.statement_id, one.images[side], (one.text,)) for one in statements],
                num_frames=1,
                sampling="uniform",
                image_size=image_size,
                transform=transform,
                seed=seed + side,
                per_caption=True,
                on_bad_clip="raise",
            )
            for side in range(count)
        ]
        self._bad: set[int] = set()

    def __len__(self) -> int:
        """Count the statements."""
        return len(self._labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Decode one item, as it is on the first walk."""
        return self.item(index, walk=0)

    def item(self, index: int, walk: int) -> dict[str, Any]:
        """Decode one item, as it is on a walk through the dataset, from 0.

        Raises:
            DecodeError: an image cannot be decoded, and is not to be replaced, or no other can either.
        """
        if not self._resample:
            return self._decoded(index % len(self), walk)
        for place in candidates(index, len(self), self._seed, walk):
            try:
                return self._decoded(place, walk)
            except DecodeError as error:
                if place not in self._bad:
                    self._bad.add(place)
                    logger.warning("statement %s: %s", self._sides[0].clips[place].clip_id, error)
        raise DecodeError(
            f"Neither the images of statement {self._sides[0].clips[index % len(self)].clip_id} can be decoded nor "
            f"those of {MOST_DRAWS} drawn in its place. Is data.image_root the right directory?"
        )

    def _decoded(self, place: int, walk: int) -> dict[str, Any]:
        sides = [side.item(place, walk) for side in self._sides]
        return {
            "clip_id": sides[0]["clip_id"],
            "caption": sides[0]["caption"],
            "pixel_values": torch.cat([side["pixel_values"] for side in sides]),
            "label": int(self._labels[place]),
        }

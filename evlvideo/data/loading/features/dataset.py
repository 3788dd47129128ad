"""Captioned clips by their features, in the place of their frames."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.loading.features.store import FeatureReader
from evlvideo.data.loading.items import clip_item
from evlvideo.data.media.errors import DecodeError
from evlvideo.errors import UserError

logger = logging.getLogger(__name__)


class FeatureDataset(Dataset[dict[str, Any]]):
    """Items like those of a `CaptionDataset`, with `features` in place of `pixel_values`.

    Nothing in an item is random. Clips that could not be decoded when the features were made are left out of training,
    and marked as `bad` in evaluation.

    Args:
        clips: the clips.
        reader: of their features.
        per_caption: one item for each caption of each clip, to train on; else one for each clip.
        leave_out_bad: leave bad clips out, and say how many; else mark them.

    Raises:
        UserError: there is nothing to iterate over.
    """

    def __init__(
        self, clips: Sequence[CaptionedClip], reader: FeatureReader, *, per_caption: bool, leave_out_bad: bool
    ) -> None:
        self.reader = reader
        self.per_caption = per_caption
        table = clips if isinstance(clips, ClipTable) else ClipTable(clips)
        numbers = (number for number, clip in enumerate(table) if not leave_out_bad or not reader.why_bad(clip.clip_id))
        good = np.fromiter(numbers, np.int64)
        self.bad_clips = sorted(table[int(number)].clip_id for number in np.setdiff1d(np.arange(len(table)), good))
        if self.bad_clips:
            logger.warning(
                "%d of %d clips have no features and are left out of training.", len(self.bad_clips), len(table)
            )
        self.clips = table.take(good) if self.bad_clips else table
        self._length = int(self.clips.caption_counts().sum()) if per_caption else len(self.clips)
        if not self._length:
            raise UserError(f"{reader.directory} has features of none of the {len(clips)} clips.")

    def __len__(self) -> int:
        """Count the items."""
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One item.

        Raises:
            IndexError: there is no such item.
            UserError: its shard is broken.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"The index is {index}; there are {len(self)} items.")
        number, caption = self.clips.find_caption(index % len(self)) if self.per_caption else (index, None)
        clip = self.clips[number]
        try:
            return clip_item(clip, caption, {"features": self.reader.read(clip.clip_id)})
        except DecodeError as error:
            return clip_item(clip, caption, {"bad": str(error)})

    def item(self, index: int, walk: int) -> dict[str, Any]:
        """One item, the same on every walk through the dataset."""
        return self[index]

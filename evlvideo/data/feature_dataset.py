"""Captioned clips by their features, in the place of their frames."""

import logging
from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from evlvideo.data.captioned import CaptionedClip
from evlvideo.data.clip import DecodeError
from evlvideo.data.feature_store import FeatureReader
from evlvideo.errors import UserError

logger = logging.getLogger(__name__)


class FeatureDataset(Dataset[dict[str, Any]]):
    """Items like those of :class:`evlvideo.data.datasets.CaptionDataset`, with `features` in place of `pixel_values`.

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
        bad = {clip.clip_id for clip in clips if reader.why_bad(clip.clip_id)} if leave_out_bad else set()
        if bad:
            logger.warning("%d of %d clips have no features and are left out of training.", len(bad), len(clips))
        self.bad_clips = sorted(bad)
        self.clips = [clip for clip in clips if clip.clip_id not in bad]
        captions = (range(len(clip.captions)) if per_caption else (0,) for clip in self.clips)
        self._items = [(number, place) for number, places in enumerate(captions) for place in places]
        if not self._items:
            raise UserError(f"{reader.directory} has features of none of the {len(clips)} clips.")

    def set_epoch(self, epoch: int) -> None:
        """Nothing depends on the epoch."""

    def __len__(self) -> int:
        """Count the items."""
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One item.

        Raises:
            UserError: its shard is broken.
        """
        number, place = self._items[index]
        clip = self.clips[number]
        item: dict[str, Any] = {"clip_id": clip.clip_id, "captions": list(clip.captions)}
        if self.per_caption:
            item["caption"] = clip.captions[place]
        try:
            item["features"] = self.reader.read(clip.clip_id)
        except DecodeError as error:
            item["bad"] = str(error)
        return item

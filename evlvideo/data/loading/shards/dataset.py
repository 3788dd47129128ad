"""Samples of shards as a torch dataset to train on."""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from evlvideo.data.loading.items import MOST_DRAWS, candidates, clip_item, transform_with_seed
from evlvideo.data.loading.shards.clips import ShardClip, ShardClips
from evlvideo.data.loading.transforms import Transform
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import TarMember

Decode = Callable[[TarMember, torch.Generator], np.ndarray]
"""From an image or video and a source of randomness to RGB frames, uint8 of shape (frames, height, width, 3)."""

logger = logging.getLogger(__name__)


class ShardDataset(Dataset[dict[str, Any]]):
    """Samples of shards as items to train on, like those of a `CaptionDataset`.

    There is one item for each sample; of several captions one is drawn. What is random in an item is a function of the
    seed, the walk and the item's index. A sample that cannot be decoded is named once in the log, and another takes
    its place.

    Args:
        clips: the samples.
        decode: takes frames from an image or video.
        transform: from decoded frames to a tensor, see :mod:`evlvideo.data.loading.transforms`.
        seed: seed of the run.
    """

    def __init__(self, clips: ShardClips, *, decode: Decode, transform: Transform, seed: int) -> None:
        self.clips = clips
        self.decode = decode
        self.transform = transform
        self.seed = seed
        # In shared memory, to be seen by all workers.
        self._bad = torch.zeros(len(clips), dtype=torch.bool).share_memory_()

    @property
    def bad_clips(self) -> list[str]:
        """Names of the samples that could not be decoded so far, by any worker."""
        return [self.clips.clip_id(number) for number in self._bad.nonzero().flatten().tolist()]

    def __len__(self) -> int:
        """Count the items."""
        return len(self.clips)

    def in_order(self, place: int, key: int) -> int:
        """Tell which item comes at a place of a walk in random order; see :meth:`ShardClips.in_order`."""
        return self.clips.in_order(place, key)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Decode and transform one item, as it is on the first walk; see :meth:`item`."""
        return self.item(index, walk=0)

    def item(self, index: int, walk: int) -> dict[str, Any]:
        """Decode and transform one item, as it is on a walk through the dataset, from 0.

        It has a `clip_id`, `pixel_values` (frames, 3, height, width), `captions`, and of these a `caption`, at its
        `caption_place`.

        Raises:
            DecodeError: neither the sample nor any drawn in its place can be decoded; the message names it.
            UserError: a shard cannot be read.
        """
        for candidate in candidates(index, len(self), self.seed, walk):
            if self._bad[candidate]:
                continue  # It would fail again, at worst after the whole time limit.
            try:
                clip = self.clips[candidate]
            except DecodeError:
                continue  # The shard cannot be read at the moment, which is in the log; the sample is not to blame.
            try:
                return self._item(clip, [self.seed, walk, index % len(self)])
            except DecodeError as error:
                logger.warning("%s in %s: %s", clip.clip_id, clip.video.shard, error)
                self._bad[candidate] = True
        raise DecodeError(f"{self.clips.clip_id(index)} cannot be decoded, nor any of {MOST_DRAWS} drawn in its place.")

    def _item(self, clip: ShardClip, entropy: list[int]) -> dict[str, Any]:
        decode_seed, transform_seed, caption = np.random.SeedSequence(entropy).generate_state(3, np.uint64).tolist()
        frames = self.decode(clip.video, torch.Generator().manual_seed(decode_seed))
        pixel_values = transform_with_seed(self.transform, frames, transform_seed)
        return clip_item(clip, caption % len(clip.captions), {"pixel_values": pixel_values})

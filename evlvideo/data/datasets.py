"""Captioned clips as a torch dataset."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from evlvideo.data.annotations import CaptionedClip
from evlvideo.data.decode import decode_frames
from evlvideo.data.sampling import SAMPLERS
from evlvideo.data.transforms import Transform
from evlvideo.errors import UserError


class CaptionDataset(Dataset[dict[str, Any]]):
    """Decoded clips with their captions.

    An item is a dict of `clip_id`, `pixel_values` (float32 of shape (frames, 3, height, width)), `captions` (all of the
    clip's) and, where items are captions, `caption`. What is random in an item is a function of the seed, the epoch
    and the item's index, so that neither the number of workers nor a resumed run changes it.

    Args:
        clips: the clips, as :func:`evlvideo.data.annotations.read_split` gives them.
        num_frames: frames taken from each clip.
        sampling: how they are chosen, a key of :data:`evlvideo.data.sampling.SAMPLERS`.
        image_size: side in pixels of the square to which the decoder resizes frames.
        transform: from decoded frames to a tensor, see :mod:`evlvideo.data.transforms`.
        seed: seed of the run.
        per_caption: one item for each caption of each clip (cross-entropy), in the order of the clips and their
            captions; else one for each clip (self-critical training, evaluation).

    Raises:
        UserError: the sampling is unknown, or there is nothing to iterate over.
    """

    def __init__(
        self,
        clips: Sequence[CaptionedClip],
        *,
        num_frames: int,
        sampling: str,
        image_size: int,
        transform: Transform,
        seed: int,
        per_caption: bool,
    ) -> None:
        if sampling not in SAMPLERS:
            raise UserError(f"The sampling is {sampling!r}; allowed: {', '.join(SAMPLERS)}.")
        self.clips = list(clips)
        self.num_frames = num_frames
        self.image_size = image_size
        self.transform = transform
        self.seed = seed
        self.per_caption = per_caption
        self._sampler = SAMPLERS[sampling]
        if per_caption:
            self._items = [(clip, place) for clip in self.clips for place in range(len(clip.captions))]
        else:
            self._items = [(clip, 0) for clip in self.clips]
        if not self._items:
            missing = "captions" if self.clips else "clips"
            raise UserError(f"The data set is empty: no {missing} were given; give at least one.")
        # In shared memory: workers that outlive an epoch (persistent_workers) must see the next one's number.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0, whose random draws the next items use."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Count the items."""
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Decode and transform one item.

        Raises:
            DecodeError: the clip cannot be decoded; the message names it.
        """
        clip, place = self._items[index]
        item: dict[str, Any] = {
            "clip_id": clip.clip_id,
            "pixel_values": self._pixel_values(clip, index),
            "captions": list(clip.captions),
        }
        if self.per_caption:
            item["caption"] = clip.captions[place]
        return item

    def _pixel_values(self, clip: CaptionedClip, index: int) -> torch.Tensor:
        entropy = [self.seed, int(self._epoch), index % len(self)]
        sampling_seed, transform_seed = np.random.SeedSequence(entropy).generate_state(2, np.uint64).tolist()

        def choose(frames_in_clip: int) -> list[int]:
            generator = torch.Generator().manual_seed(sampling_seed)
            return self._sampler(frames_in_clip, self.num_frames, generator)

        frames = decode_frames(clip.video, choose, self.image_size)
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which would reseed the GPU's dropout as well.
            torch.default_generator.manual_seed(transform_seed)
            return self.transform(frames)

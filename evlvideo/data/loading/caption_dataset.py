"""Captioned clips as a torch dataset."""

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.loading.items import MOST_DRAWS, candidates, clip_item, transform_with_seed
from evlvideo.data.loading.transforms import Transform
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.decode import decode_frames
from evlvideo.data.video.frames import DecodedFrames
from evlvideo.data.video.guarded import TIME_LIMIT_SECONDS, decode_frames_guarded
from evlvideo.data.video.sampling import SAMPLERS
from evlvideo.errors import UserError

logger = logging.getLogger(__name__)

ON_BAD_CLIP = ("resample", "raise", "skip")
"""What to do if a clip cannot be decoded."""


class CaptionDataset(Dataset[dict[str, Any]]):
    """Decoded clips with their captions.

    An item is a dict of `clip_id`, `pixel_values` (uint8 of shape (frames, 3, height, width)), `captions` (all of the
    clip's), `question` if the captions answer one and, if items are captions, `caption` and `caption_place`, its index
    among them. What is random in an item depends on the seed, the walk and the item's index alone, not on the number of
    workers or on resuming. A walk is one pass through the items; :class:`evlvideo.data.loading.mixture.Mixture` counts
    them.

    Args:
        clips: the clips, as :func:`evlvideo.data.annotation.splits.read_split` gives them; others are made a table.
        num_frames: frames taken from each clip.
        sampling: how they are chosen, a key of :data:`evlvideo.data.video.sampling.SAMPLERS`.
        image_size: side in pixels of the square to which the decoder resizes frames.
        transform: from decoded frames to a tensor, see :mod:`evlvideo.data.loading.transforms`.
        seed: seed of the run.
        per_caption: one item for each caption of each clip (cross-entropy), in the order of the clips and their
            captions; if False, one for each clip (self-critical training, evaluation).
        on_bad_clip: what to do if a clip cannot be decoded. `resample` replaces it by another clip, sampled from the
            seed, the walk and the item's index, and logs the bad one once; `raise` raises; `skip` gives an item with
            the reason under `bad` instead of `pixel_values`. Defaults to `resample` if items are captions, and to
            `raise` otherwise.
        time_limit_seconds: decode in another process, and give up a clip that takes longer or crashes the decoder. If
            None, decode in this process, without either protection.
        keep_aspect: let the decoder scale the shorter side to `image_size`, for a transform that crops.

    Raises:
        UserError: the sampling or what to do with bad clips is unknown, or there is nothing to iterate over.
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
        on_bad_clip: str | None = None,
        time_limit_seconds: float | None = TIME_LIMIT_SECONDS,
        keep_aspect: bool = False,
    ) -> None:
        on_bad_clip = on_bad_clip or ("resample" if per_caption else "raise")
        if on_bad_clip not in ON_BAD_CLIP:
            raise UserError(f"on_bad_clip is {on_bad_clip!r}; allowed: {', '.join(ON_BAD_CLIP)}.")
        if sampling not in SAMPLERS:
            raise UserError(f"The sampling is {sampling!r}; allowed: {', '.join(SAMPLERS)}.")
        # Workers of a loader share a table, and would in time copy objects.
        self.clips = clips if isinstance(clips, ClipTable) else ClipTable(clips)
        self.num_frames = num_frames
        self.image_size = image_size
        self.transform = transform
        self.seed = seed
        self.per_caption = per_caption
        self.on_bad_clip = on_bad_clip
        self._decode = (
            partial(decode_frames, keep_aspect=keep_aspect)
            if time_limit_seconds is None
            else partial(decode_frames_guarded, keep_aspect=keep_aspect, time_limit_seconds=time_limit_seconds)
        )
        self._sampler = SAMPLERS[sampling]
        self._length = int(self.clips.caption_counts().sum()) if per_caption else len(self.clips)
        if not self._length:
            missing = "captions" if self.clips else "clips"
            raise UserError(f"The dataset is empty: no {missing} were given; give at least one.")
        # In shared memory, to be seen by all workers.
        self._bad = torch.zeros(len(self.clips), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        """Count the items."""
        return self._length

    @property
    def bad_clips(self) -> list[str]:
        """Names of the clips that no worker could decode so far."""
        return [self.clips[number].clip_id for number in self._bad.nonzero().flatten().tolist()]

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Decode and transform one item, as it is on the first walk; see :meth:`item`."""
        return self.item(index, walk=0)

    def item(self, index: int, walk: int) -> dict[str, Any]:
        """Decode and transform one item, as it is on a walk through the dataset, from 0.

        Raises:
            DecodeError: the clip cannot be decoded, and is not to be left out or replaced; or no other can either. The
                message names it.
        """
        resample = self.on_bad_clip == "resample"
        entropy = [self.seed, walk, index % len(self)]
        for candidate in candidates(index, len(self), self.seed, walk):
            number, caption = self._find(candidate)
            if resample and self._bad[number]:
                continue  # It would fail again, at worst after the whole time limit.
            clip = self.clips[number]
            try:
                asked = {} if clip.question is None else {"question": clip.question}
                return clip_item(clip, caption, {"pixel_values": self._pixel_values(clip, entropy), **asked})
            except DecodeError as error:
                self._note(number, error)
                if self.on_bad_clip == "skip":
                    return clip_item(clip, caption, {"bad": str(error)})
                if not resample:
                    raise
        raise DecodeError(
            f"{self.clips[self._find(index % len(self))[0]].clip_id} cannot be decoded, nor any of {MOST_DRAWS} clips "
            f"drawn in its place; {len(self.bad_clips)} of {len(self.clips)} are bad. Is data.video_root the right "
            "directory?"
        )

    def _find(self, index: int) -> tuple[int, int | None]:
        """Find an item's clip, and which of its captions it is."""
        return self.clips.find_caption(index) if self.per_caption else (index, None)

    def _note(self, number: int, error: DecodeError) -> None:
        if not self._bad[number]:
            logger.warning("%s: %s", self.clips[number].clip_id, error)
        self._bad[number] = True

    def decode(self, index: int) -> DecodedFrames:
        """Decode the frames of one item as :meth:`item` does on the first walk, with their times, to show them.

        Raises:
            DecodeError: the clip cannot be decoded; no other replaces it.
        """
        sampling_seed, _ = _seeds([self.seed, 0, index % len(self)])
        return self._frames(self.clips[self._find(index % len(self))[0]], sampling_seed)

    def _pixel_values(self, clip: CaptionedClip, entropy: list[int]) -> torch.Tensor:
        sampling_seed, transform_seed = _seeds(entropy)
        return transform_with_seed(self.transform, self._frames(clip, sampling_seed).frames, transform_seed)

    def _frames(self, clip: CaptionedClip, sampling_seed: int) -> DecodedFrames:
        def choose(frames: int, seconds: np.ndarray) -> list[int]:
            generator = torch.Generator().manual_seed(sampling_seed)
            return self._sampler(frames, seconds, self.num_frames, generator)

        return self._decode(
            clip.video,
            choose,
            self.image_size,
            start_seconds=clip.start_seconds,
            end_seconds=clip.end_seconds,
        )


def _seeds(entropy: list[int]) -> tuple[int, int]:
    """Seeds of an item's sampling and transform."""
    sampling_seed, transform_seed = np.random.SeedSequence(entropy).generate_state(2, np.uint64).tolist()
    return sampling_seed, transform_seed

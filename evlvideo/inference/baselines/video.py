"""Clips for models that bring a processor of their own: frames as they are in the file, and when they are shown."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.guarded import decode_frames_guarded
from evlvideo.data.video.sampling import Sampler


@dataclass(frozen=True, slots=True, eq=False)
class ShownClip:
    """What a model is shown of a clip."""

    clip_id: str
    """Its name."""
    frames: np.ndarray
    """RGB values, uint8 of shape (T, height, width, 3), of the file's size."""
    places: list[int]
    """Place of each frame in the clip, from 0: its time by the mean rate."""
    rate: float
    """Frames per second on average; 1 for a picture."""
    frames_in_clip: int
    """Frames that the clip has."""


@dataclass(frozen=True, slots=True)
class BadClip:
    """A clip that cannot be decoded."""

    clip_id: str
    reason: str


class ShownClips(Dataset[ShownClip | BadClip]):
    """Clips of a split as they are shown, without any randomness.

    Args:
        clips: the clips.
        num_frames: frames taken from each.
        sampler: how they are chosen.
    """

    def __init__(self, clips: Sequence[CaptionedClip], *, num_frames: int, sampler: Sampler) -> None:
        self.clips = list(clips)
        self.num_frames = num_frames
        self.sampler = sampler

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.clips)

    def __getitem__(self, index: int) -> ShownClip | BadClip:
        """Decode one clip."""
        clip = self.clips[index]
        counted = 0

        def choose(frames: int, rate: float) -> list[int]:
            nonlocal counted
            counted = frames
            return self.sampler(frames, rate, self.num_frames, torch.Generator().manual_seed(0))

        try:
            decoded = decode_frames_guarded(
                clip.video, choose, start_seconds=clip.start_seconds, end_seconds=clip.end_seconds
            )
        except DecodeError as error:
            return BadClip(clip.clip_id, str(error))
        rate = decoded.metadata.rate or 1.0
        # By time and not by index: models are told when a frame is shown, and rates may vary.
        seconds = decoded.timestamps_seconds - (clip.start_seconds or 0.0)
        return ShownClip(clip.clip_id, decoded.frames, np.rint(seconds * rate).astype(int).tolist(), rate, counted)

"""Clips for models with their own processor: frames at the size of the file, and their times."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers.video_utils import VideoMetadata

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.guarded import decode_frames_guarded
from evlvideo.data.video.sampling import Sampler


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """Sampled frames of a clip."""

    frames: np.ndarray
    """RGB, uint8 of shape (T, height, width, 3)."""
    metadata: VideoMetadata
    """The clip's number of frames, mean rate (1 for an image), and the index of each frame by its time."""


class VideoDataset(Dataset[dict[str, Any]]):
    """Decodes clips without any randomness. An item has a `clip_id`, and a `video` or the reason why it is `bad`.

    Args:
        clips: the clips.
        num_frames: number of frames of each clip.
        sampler: chooses the frames.
    """

    def __init__(self, clips: Sequence[CaptionedClip], *, num_frames: int, sampler: Sampler) -> None:
        self.clips = clips
        self.num_frames = num_frames
        self.sampler = sampler

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Decode one clip."""
        clip = self.clips[index]
        try:
            return {"clip_id": clip.clip_id, "video": self._read(clip)}
        except DecodeError as error:
            return {"clip_id": clip.clip_id, "bad": str(error)}

    def _read(self, clip: CaptionedClip) -> Video:
        counted = 0

        def choose(frames: int, seconds: np.ndarray) -> list[int]:
            nonlocal counted
            counted = frames
            return self.sampler(frames, seconds, self.num_frames, torch.Generator().manual_seed(0))

        decoded = decode_frames_guarded(
            clip.video, choose, start_seconds=clip.start_seconds, end_seconds=clip.end_seconds
        )
        rate = decoded.metadata.rate or 1.0
        # By time and not by index: models need the time of each frame, and rates may vary.
        seconds = np.maximum(decoded.timestamps_seconds - (clip.start_seconds or 0.0), 0.0)
        height, width = decoded.frames.shape[1:3]
        return Video(
            decoded.frames,
            VideoMetadata(
                total_num_frames=counted,
                fps=rate,
                width=width,
                height=height,
                duration=counted / rate,
                frames_indices=np.rint(seconds * rate).astype(int).tolist(),
            ),
        )

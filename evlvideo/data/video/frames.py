"""Frames taken from a video file, and what is known of the file."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class VideoMetadata:
    """What a video file holds."""

    frames: int
    """Frames that the whole file shows. What an edit list hides, or a cut has left undecodable, is not counted."""
    rate: float
    """Frames per second on average; 0 where there is one frame."""
    width: int
    """Width in pixels as shown, after rotation."""
    height: int
    """Height in pixels as shown, after rotation."""
    codec: str
    """FFmpeg's name of the codec."""
    rotation: int
    """Degrees, counter-clockwise, by which the stored frames were turned to be shown: 0, 90, 180 or 270."""
    duration_seconds: float
    """From the first frame to the end of the last."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrames:
    """Frames of a video, T of them, with when and where they were."""

    frames: np.ndarray
    """RGB values, uint8 of shape (T, height, width, 3), upright."""
    timestamps_seconds: np.ndarray
    """When each frame is shown, float64 of shape (T,), from the start of the file."""
    indices: tuple[int, ...]
    """Index of each frame among all that the file shows, from 0, in presentation order."""
    metadata: VideoMetadata
    backend: str
    """What decoded the frames."""

    def __post_init__(self) -> None:
        count = len(self.indices)
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(f"frames are {self.frames.dtype} {self.frames.shape}; uint8 (T, H, W, 3) is needed.")
        if len(self.frames) != count or self.timestamps_seconds.shape != (count,):
            raise ValueError(
                f"{count} indices, {len(self.frames)} frames and timestamps of shape {self.timestamps_seconds.shape} "
                "do not belong together."
            )

    def __repr__(self) -> str:
        return (
            f"DecodedFrames(frames={self.frames.dtype} {self.frames.shape}, indices={self.indices}, "
            f"timestamps_seconds={np.round(self.timestamps_seconds, 3).tolist()}, metadata={self.metadata}, "
            f"backend={self.backend!r})"
        )

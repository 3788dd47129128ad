"""Decoded frames, and metadata of their video."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class VideoMetadata:
    """Metadata of a video file."""

    frames: int
    """Number of frames shown, without those that an edit list hides or that a cut made undecodable."""
    rate: float
    """Frames per second on average; 0 for one frame."""
    width: int
    """Width in pixels as shown, after rotation."""
    height: int
    """Height in pixels as shown, after rotation."""
    codec: str
    """FFmpeg's name of the codec."""
    rotation: int
    """Counter-clockwise rotation applied to stored frames, in degrees: 0, 90, 180 or 270."""
    duration_seconds: float
    """From the first frame to the end of the last."""


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFrames:
    """T decoded frames of a video, with their times and indices."""

    frames: np.ndarray
    """RGB values, uint8 of shape (T, height, width, 3), upright."""
    timestamps_seconds: np.ndarray
    """Presentation time of each frame from the start of the file, float64 of shape (T,)."""
    indices: tuple[int, ...]
    """Index of each frame in the file, from 0, in presentation order."""
    metadata: VideoMetadata
    backend: str
    """Name of the decoder."""

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

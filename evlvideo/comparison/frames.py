"""Sampled frames of a clip as small pictures that a page carries inside itself."""

import base64
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image

from evlvideo.data.annotations import CaptionedClip
from evlvideo.errors import UserError

FramesFor: TypeAlias = Callable[[CaptionedClip], list[np.ndarray]]
"""Gives frames of a clip, uint8 (H, W, 3) each, in order. Raises UserError where the clip cannot be read."""

FRAMES = 4
LONGEST_SIDE = 128
"""Pixels of a picture's longer side."""
_QUALITY = 82


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG as a `data:` address, with its size in pixels."""

    address: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Filmstrips:
    """Pictures by clip, and why some clips have none."""

    pictures: Mapping[str, tuple[Picture, ...]]
    problems: Mapping[str, str]


def sampled_frames(clip: CaptionedClip) -> list[np.ndarray]:
    """Decode frames spread evenly over a clip, the way frames are taken at evaluation.

    Returns:
        Four arrays, uint8 (H, W, 3), in order.

    Raises:
        UserError: the file is missing or cannot be decoded.
    """
    # Decoders and torch come late: a comparison without a gallery needs neither.
    from evlvideo.data.decode import decode_clip
    from evlvideo.data.sampling import uniform

    return list(decode_clip(clip.video, lambda frames, rate: uniform(frames, rate, FRAMES)).frames)


def filmstrips(clips: Iterable[CaptionedClip], frames_for: FramesFor = sampled_frames) -> Filmstrips:
    """Make the pictures of every clip that can be read; the others are named with the reason."""
    pictures, problems = {}, {}
    for clip in clips:
        try:
            pictures[clip.clip_id] = tuple(encode(frame) for frame in frames_for(clip))
        except UserError as error:
            problems[clip.clip_id] = str(error)
    return Filmstrips(pictures, problems)


def encode(frame: np.ndarray) -> Picture:
    """Turn a frame, uint8 (H, W, 3), into a JPEG no longer than `LONGEST_SIDE`; small frames keep their size."""
    image = Image.fromarray(frame)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return Picture(
        f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}", image.width, image.height
    )

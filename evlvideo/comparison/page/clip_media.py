"""Clips as small pictures and small films that a page carries inside itself, within a budget of bytes."""

import base64
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.errors import UserError

FRAMES = 4
"""Pictures of a clip."""
LONGEST_SIDE = 128
"""Pixels of a picture's longer side."""
_QUALITY = 82

PREVIEW_SIDE = 160
"""Pixels of a film's longer side."""
PREVIEW_FRAMES = 64
"""Most frames of a film, spread over the whole clip."""
PREVIEW_RATES = (5.0, 12.0)
"""Lowest and highest rate of a film, in frames per second; a clip that would need a lower one is shown faster."""
PREVIEW_BYTES = 96_000
"""Most bytes of a film, as it stands in the page."""
_DECODED_SIDE = 120
"""Shorter side in pixels to which frames are scaled while they are decoded."""


@dataclass(frozen=True, slots=True)
class ClipFrames:
    """Frames of a clip from start to end."""

    frames: Sequence[np.ndarray]
    """uint8 (H, W, 3) each, in order."""
    seconds: float = 0.0
    """How long the clip lasts; 0 where it is not to be played."""


FrameReader: TypeAlias = Callable[[CaptionedClip], ClipFrames]
"""Gives frames of a clip. Raises UserError where the clip cannot be read."""


@dataclass(frozen=True, slots=True)
class PageImage:
    """A picture as a `data:` address, with its size in pixels."""

    address: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class PreviewClip:
    """A clip to be played, as a `data:` address, with its size in pixels."""

    address: str
    width: int
    height: int
    speed: float
    """How much faster than the clip it is shown; 1 is the clip's own speed."""


class ByteBudget:
    """How many bytes of pictures and films a page may still take in.

    Args:
        total: bytes, counted as they stand in the page.
    """

    def __init__(self, total: int) -> None:
        self.left = total
        self.spent = False
        """Whether something was refused for want of room."""

    def take(self, wanted: int) -> bool:
        """Take bytes out, if there are as many."""
        self.spent = self.spent or wanted > self.left
        if self.spent:
            return False
        self.left -= wanted
        return True


def decode_frames(clip: CaptionedClip) -> ClipFrames:
    """Decode frames spread evenly over a clip, the way frames are taken at evaluation, but more of them.

    Raises:
        UserError: the file is missing or cannot be decoded.
    """
    # Decoders and torch come late: a comparison without a gallery needs neither.
    from evlvideo.data.video.guarded import decode_frames_guarded
    from evlvideo.data.video.sampling import uniform

    seconds = 0.0

    def choose(frames: int, rate: float) -> list[int]:
        nonlocal seconds
        seconds = frames / rate if rate > 0 and frames > 1 else 0.0
        enough = max(FRAMES, math.ceil(seconds * PREVIEW_RATES[1]))
        return uniform(frames, rate, min(frames, PREVIEW_FRAMES, enough))

    decoded = decode_frames_guarded(
        clip.video,
        choose,
        _DECODED_SIDE,
        keep_aspect=True,
        start_seconds=clip.start_seconds,
        end_seconds=clip.end_seconds,
    )
    return ClipFrames(list(decoded.frames), seconds)


def spread_images(footage: ClipFrames) -> tuple[PageImage, ...]:
    """Make pictures of frames spread over a clip; a shorter clip has one for each of its frames."""
    count, total = min(FRAMES, len(footage.frames)), len(footage.frames)
    return tuple(encode_jpeg(footage.frames[place * total // count]) for place in range(count))


def encode_jpeg(frame: np.ndarray) -> PageImage:
    """Turn a frame, uint8 (H, W, 3), into a JPEG no longer than `LONGEST_SIDE`; small frames keep their size."""
    image = Image.fromarray(frame)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return PageImage(data_address("image/jpeg", buffer.getvalue()), image.width, image.height)


def encode_png(pixels: np.ndarray) -> PageImage:
    """Turn flat colours, uint8 (H, W, 3), into a PNG of their size."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return PageImage(data_address("image/png", buffer.getvalue()), image.width, image.height)


def encode_preview(footage: ClipFrames, most_bytes: int = PREVIEW_BYTES) -> PreviewClip | None:
    """Turn a clip into H.264, which every browser plays.

    Args:
        footage: frames, all of one size.
        most_bytes: most bytes of the address.

    Returns:
        the film, or `None` where there is nothing to play, nothing to encode with, or not enough room.
    """
    import av

    if len(footage.frames) < 2 or footage.seconds <= 0:
        return None
    lowest, highest = PREVIEW_RATES
    rate = min(max(len(footage.frames) / footage.seconds, lowest), highest)
    width, height = _film_size(*footage.frames[0].shape[:2])
    bits = int(most_bytes * 0.7 * 8 / (len(footage.frames) / rate))  # base64 adds a third
    options = {"crf": "27", "preset": "veryfast", "maxrate": str(bits), "bufsize": str(bits)}
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=round(rate), options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for pixels in footage.frames:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                container.mux(stream.encode(frame.reformat(width, height, interpolation="AREA")))
            container.mux(stream.encode(None))
    except (av.FFmpegError, ValueError):  # FFmpeg was built without the encoder, or refuses the size
        return None
    address = data_address("video/mp4", buffer.getvalue())
    if len(address) > most_bytes:
        return None
    return PreviewClip(address, width, height, speed=round(rate) * footage.seconds / len(footage.frames))


def _film_size(height: int, width: int) -> tuple[int, int]:
    """Width and height that H.264 takes, which are even, with the longer one at most `PREVIEW_SIDE`."""
    scale = min(1.0, PREVIEW_SIDE / max(height, width))
    return max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2)


def data_address(kind: str, content: bytes) -> str:
    """Write bytes of a media type as an address that holds them itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class ClipMedia:
    """What is shown of one clip, and why it is not more."""

    pictures: tuple[PageImage, ...] = ()
    film: PreviewClip | None = None
    problem: str = ""
    """Why the clip cannot be read; empty where it can, or where no room was left for it."""

    @property
    def poster(self) -> PageImage:
        """What a film shows before it plays."""
        return self.pictures[len(self.pictures) // 2]


def gather_media(
    clips: Sequence[CaptionedClip], budget: ByteBudget, read_frames: FrameReader = decode_frames
) -> dict[str, ClipMedia]:
    """Make pictures and films of clips, in their order, until the budget is spent.

    Each clip has an equal share of what is left: a film that does not fit it is left out, and the pictures stand alone.
    Pictures that do not fit what is left for all are the last that were tried; the clips after them are not decoded.
    """
    made: dict[str, ClipMedia] = {}
    for place, clip in enumerate(clips):
        try:
            made[clip.clip_id] = ClipMedia() if budget.spent else _reel(read_frames(clip), budget, len(clips) - place)
        except UserError as error:
            made[clip.clip_id] = ClipMedia(problem=str(error))
    return made


def _reel(footage: ClipFrames, budget: ByteBudget, clips_left: int) -> ClipMedia:
    share = budget.left // clips_left
    reel = ClipMedia(spread_images(footage))
    size = sum(len(picture.address) for picture in reel.pictures)
    if not budget.take(size):
        return ClipMedia()
    room = share - size - len(reel.poster.address)  # the poster stands in the page once more
    film = encode_preview(footage, min(PREVIEW_BYTES, room)) if room > 0 else None
    if film is None:
        return reel
    budget.take(len(film.address) + len(reel.poster.address))
    return ClipMedia(reel.pictures, film)

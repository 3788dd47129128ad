"""Encodes clips as small images and preview clips that a page embeds, within a budget of bytes."""

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
"""Number of images of a clip."""
LONGEST_SIDE = 128
"""Longer side of an image in pixels."""
_QUALITY = 82

PREVIEW_SIDE = 160
"""Longer side of a preview clip in pixels."""
PREVIEW_FRAMES = 64
"""Upper bound on the frames of a preview clip, spread over the whole clip."""
PREVIEW_RATES = (5.0, 12.0)
"""Lowest and highest rate of a preview clip in frames per second. A clip that needs a lower one plays faster."""
PREVIEW_BYTES = 96_000
"""Upper bound on the encoded bytes of a preview clip."""
_DECODED_SIDE = 120
"""Shorter side in pixels to which frames are scaled while they are decoded."""


@dataclass(frozen=True, slots=True)
class ClipFrames:
    """Frames of a clip from start to end."""

    frames: Sequence[np.ndarray]
    """uint8 (H, W, 3) each, in order."""
    seconds: float = 0.0
    """Duration of the clip. 0 if it is not to be played."""


FrameReader: TypeAlias = Callable[[CaptionedClip], ClipFrames]
"""Reads the frames of a clip. Raises UserError if it cannot be read."""


@dataclass(frozen=True, slots=True)
class PageImage:
    """An image as a `data:` URL, with its size in pixels."""

    address: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class PreviewClip:
    """A preview clip as a `data:` URL, with its size in pixels."""

    address: str
    width: int
    height: int
    speed: float
    """Speed relative to the clip."""


class ByteBudget:
    """The bytes left for the images and preview clips of a page.

    Args:
        total: encoded bytes.
    """

    def __init__(self, total: int) -> None:
        self.left = total
        self.spent = False
        """Whether something was refused for lack of room."""

    def take(self, wanted: int) -> bool:
        """Take bytes if there are enough left."""
        self.spent = self.spent or wanted > self.left
        if self.spent:
            return False
        self.left -= wanted
        return True


def decode_frames(clip: CaptionedClip) -> ClipFrames:
    """Decode frames spread evenly over a clip, sampled as at evaluation, but more of them.

    Raises:
        UserError: the file is missing or cannot be decoded.
    """
    # Imported late: a comparison without a gallery needs neither decoders nor torch.
    from evlvideo.data.video.guarded import decode_frames_guarded
    from evlvideo.data.video.sampling import uniform

    seconds = 0.0

    def choose(frames: int, times: np.ndarray) -> list[int]:
        nonlocal seconds
        seconds = round(float(times[-1] - times[0]) * frames / (frames - 1), 6) if frames > 1 else 0.0
        enough = max(FRAMES, math.ceil(seconds * PREVIEW_RATES[1]))
        return uniform(frames, times, min(frames, PREVIEW_FRAMES, enough))

    decoded = decode_frames_guarded(
        clip.video,
        choose,
        _DECODED_SIDE,
        keep_aspect=True,
        start_seconds=clip.start_seconds,
        end_seconds=clip.end_seconds,
    )
    return ClipFrames(list(decoded.frames), seconds)


def spread_images(clip: ClipFrames) -> tuple[PageImage, ...]:
    """Encode images of frames spread over a clip, at most one for each frame."""
    count, total = min(FRAMES, len(clip.frames)), len(clip.frames)
    return tuple(encode_jpeg(clip.frames[index * total // count]) for index in range(count))


def encode_jpeg(frame: np.ndarray, longest_side: int = LONGEST_SIDE) -> PageImage:
    """Encode a frame, uint8 (H, W, 3), as JPEG. Shrinks it to `longest_side` pixels if it is larger."""
    image = Image.fromarray(frame)
    image.thumbnail((longest_side, longest_side))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return PageImage(data_address("image/jpeg", buffer.getvalue()), image.width, image.height)


def encode_png(pixels: np.ndarray) -> PageImage:
    """Encode flat colours, uint8 (H, W, 3), as PNG of the same size."""
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return PageImage(data_address("image/png", buffer.getvalue()), image.width, image.height)


def encode_preview(clip: ClipFrames, most_bytes: int = PREVIEW_BYTES) -> PreviewClip | None:
    """Encode a clip as H.264, which every browser plays.

    Args:
        clip: frames, all of one size.
        most_bytes: upper bound on the bytes of the URL.

    Returns:
        the preview clip, or `None` if there is nothing to play, no encoder, or not enough room.
    """
    import av

    if len(clip.frames) < 2 or clip.seconds <= 0:
        return None
    lowest, highest = PREVIEW_RATES
    rate = min(max(len(clip.frames) / clip.seconds, lowest), highest)
    width, height = _preview_size(*clip.frames[0].shape[:2])
    bits = int(most_bytes * 0.7 * 8 / (len(clip.frames) / rate))  # base64 adds a third
    options = {"crf": "27", "preset": "veryfast", "maxrate": str(bits), "bufsize": str(bits)}
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=round(rate), options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for pixels in clip.frames:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                container.mux(stream.encode(frame.reformat(width, height, interpolation="AREA")))
            container.mux(stream.encode(None))
    except (av.FFmpegError, ValueError):  # FFmpeg was built without the encoder, or refuses the size
        return None
    address = data_address("video/mp4", buffer.getvalue())
    if len(address) > most_bytes:
        return None
    return PreviewClip(address, width, height, speed=round(rate) * clip.seconds / len(clip.frames))


def _preview_size(height: int, width: int) -> tuple[int, int]:
    """Return the even width and height that H.264 needs, at most `PREVIEW_SIDE`."""
    scale = min(1.0, PREVIEW_SIDE / max(height, width))
    return max(2, int(width * scale) // 2 * 2), max(2, int(height * scale) // 2 * 2)


def data_address(kind: str, content: bytes) -> str:
    """Write bytes of a media type as a `data:` URL."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


@dataclass(frozen=True, slots=True)
class ClipMedia:
    """The images and the preview clip of one clip, or why they are missing."""

    images: tuple[PageImage, ...] = ()
    preview: PreviewClip | None = None
    problem: str = ""
    """Why the clip cannot be read. Empty if it can, or if no room was left."""

    @property
    def poster(self) -> PageImage:
        """The image that a preview clip shows before it plays."""
        return self.images[len(self.images) // 2]


def gather_media(
    clips: Sequence[CaptionedClip], budget: ByteBudget, read_frames: FrameReader = decode_frames
) -> dict[str, ClipMedia]:
    """Encode images and preview clips in order until the budget is spent.

    Each clip has an equal share of the bytes left. A preview clip that exceeds the share is left out. Once images do
    not fit, no further clips are decoded.
    """
    made: dict[str, ClipMedia] = {}
    for index, clip in enumerate(clips):
        try:
            made[clip.clip_id] = ClipMedia() if budget.spent else _encode(read_frames(clip), budget, len(clips) - index)
        except UserError as error:
            made[clip.clip_id] = ClipMedia(problem=str(error))
    return made


def _encode(clip: ClipFrames, budget: ByteBudget, clips_left: int) -> ClipMedia:
    share = budget.left // clips_left
    media = ClipMedia(spread_images(clip))
    size = sum(len(image.address) for image in media.images)
    if not budget.take(size):
        return ClipMedia()
    room = share - size - len(media.poster.address)  # the page repeats the image as the poster
    preview = encode_preview(clip, min(PREVIEW_BYTES, room)) if room > 0 else None
    if preview is None:
        return media
    budget.take(len(preview.address) + len(media.poster.address))
    return ClipMedia(media.images, preview)

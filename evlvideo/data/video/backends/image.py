"""Read pictures: images, which are videos of one frame, and animations."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media
from evlvideo.data.media.pixels import to_rgb
from evlvideo.data.video.backends.heif import read_heif
from evlvideo.data.video.frames import VideoMetadata
from evlvideo.errors import UserError

IMAGE_SUFFIXES = {
    *(".apng", ".avif", ".bmp", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff"),
    ".webp",
}
"""Suffixes of pictures."""

_FORMATS = ("AVIF", "BMP", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP")
"""Formats that Pillow reads here, whatever the suffix. Some others of its run programs or open other files."""
_ANIMATED = ("AVIF", "PNG", "WEBP")
"""Formats whose frames follow each other in time. Those of TIFF and JPEG are pages, previews or depths."""
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_HEIC, _AVIF = {b"heic", b"heix", b"heim", b"heis", b"mif1"}, {b"avif", b"avis"}
"""Brands of pictures in MP4's boxes; `hevc`, `hevx` and `msf1` are videos."""
_STREAMS = {".mjpeg", ".mjpg"}
"""Suffixes of bare streams of JPEG pictures, which begin as one picture does."""
_HEAD_BYTES = 64
_DEFAULT_MS = 100.0
"""How long browsers show a frame that has no duration."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An image, or an animation of F frames."""

    media: Media
    metadata: VideoMetadata
    timestamps_seconds: np.ndarray
    """When each frame appears, float64 of shape (F,)."""
    still: Image.Image | None
    """The image, in RGB. If None, the frames of an animation are read when they are wanted."""


def is_picture(media: Media) -> bool:
    """Tell from the first bytes of a file, and by its suffix if they say nothing, whether it is a picture.

    GIF is not one: FFmpeg decodes it, as a video.
    """
    with media.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if head.startswith(_STARTS) or head[8:12] == b"WEBP" or _is_heic(head) or _is_avif(head):
        return media.suffix.lower() not in _STREAMS
    return media.suffix.lower() in IMAGE_SUFFIXES and not head.startswith(b"GIF8")


def is_image(media: Media) -> bool:
    """Tell from its head whether a picture is one image that Pillow reads, and so needs no time limit."""
    with suppress(Exception), media.open("rb") as file, Image.open(file, formats=_FORMATS) as opened:
        return len(_frame_numbers(opened)) == 1
    return False


def read_picture(media: Media) -> Picture:
    """Read an image upright, or the times of an animation, of which every frame is decoded once.

    Raises:
        DecodeError: the file is not a picture, is broken, or would exhaust the memory.
        UserError: a shard is missing.
    """
    with _named(media), media.open("rb") as file:
        if _is_heic(file.read(_HEAD_BYTES)):
            return _image(media, read_heif(media), "heic")
        file.seek(0)
        with Image.open(file, formats=_FORMATS) as opened:
            if 0 in opened.size:
                raise ValueError("it has no pixels")
            if len(_frame_numbers(opened)) > 1:
                return _animation(media, opened)
            ImageOps.exif_transpose(opened, in_place=True)
            opened.load()
            return _image(media, to_rgb(opened), str(opened.format).lower())


def decode(picture: Picture, indices: Sequence[int], height: int, width: int) -> np.ndarray:
    """Decode frames.

    Args:
        picture: an image or animation.
        indices: ascending, without repetitions.
        height: height of the result in pixels.
        width: width of the result in pixels.

    Returns:
        RGB values, uint8 of shape (indices, height, width, 3), scaled bilinearly, upright.

    Raises:
        DecodeError: as :func:`read_picture`.
    """
    if picture.still is not None:
        return resize(picture.still, height, width)[None]
    with _named(picture.media), picture.media.open("rb") as file, Image.open(file, formats=_FORMATS) as opened:
        numbers = _frame_numbers(opened)
        # In their order: each frame of an animation changes the one before it.
        upright = (_upright(opened, numbers[place]) for place in indices)
        return np.stack([resize(frame, height, width) for frame in upright])


def check_gif(media: Media) -> None:
    """Check that no frame of a GIF is cut off, which FFmpeg conceals.

    Raises:
        DecodeError: one is.
    """
    with _named(media), media.open("rb") as file, Image.open(file, formats=("GIF",)) as opened:
        for number in range(int(getattr(opened, "n_frames", 1))):
            opened.seek(number)
            opened.load()


def resize(image: Image.Image, height: int, width: int) -> np.ndarray:
    """Scale an image bilinearly.

    Returns:
        RGB values, uint8 of shape (height, width, 3).
    """
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)


@contextmanager
def _named(media: Media) -> Iterator[None]:
    """Convert errors of decoders to a :class:`DecodeError` that names the file."""
    try:
        yield
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise DecodeError(f"{media} cannot be decoded: unknown format. Is it an image, and whole?") from error
    except Exception as error:
        # On broken files, decoders raise errors of many kinds, none of which may cost more than the file.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DecodeError(f"{media} cannot be decoded: {reason}. Is it an image, and whole?") from error


def _brands(head: bytes) -> tuple[bytes, set[bytes]]:
    """Return the main brand of a file of MP4's boxes, and the others."""
    if head[4:8] != b"ftyp":
        return b"", set()
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return head[8:12], {head[place : place + 4] for place in range(16, end, 4)}


def _is_avif(head: bytes) -> bool:
    main, others = _brands(head)
    return main in _AVIF or (main in (b"mif1", b"msf1") and bool(others & _AVIF))


def _is_heic(head: bytes) -> bool:
    return _brands(head)[0] in _HEIC and not _is_avif(head)


def _frame_numbers(opened: Image.Image) -> range:
    """Return the frames that are shown, of an animation all; a PNG may have an image before it."""
    if opened.format not in _ANIMATED:
        return range(1)
    count = int(getattr(opened, "n_frames", 1))
    return range(1 if count > 1 and opened.info.get("default_image") else 0, count)


def _upright(opened: Image.Image, number: int) -> Image.Image:
    opened.seek(number)
    opened.load()
    return to_rgb(ImageOps.exif_transpose(opened))


def _animation(media: Media, opened: Image.Image) -> Picture:
    milliseconds = []
    for number in _frame_numbers(opened):
        opened.seek(number)
        opened.load()
        milliseconds.append(float(opened.info.get("duration") or _DEFAULT_MS))
    ends = np.cumsum(milliseconds) / 1000
    size = ImageOps.exif_transpose(opened).size
    seconds = np.concatenate([[0.0], ends[:-1]])
    rate = (len(seconds) - 1) / float(seconds[-1])
    return Picture(
        media, _metadata(size, str(opened.format).lower(), len(seconds), rate, float(ends[-1])), seconds, None
    )


def _image(media: Media, image: Image.Image, codec: str) -> Picture:
    return Picture(media, _metadata(image.size, codec), np.zeros(1), image)


def _metadata(
    size: tuple[int, int], codec: str, frames: int = 1, rate: float = 0.0, duration_seconds: float = 0.0
) -> VideoMetadata:
    width, height = size
    return VideoMetadata(frames, rate, width, height, codec, 0, duration_seconds)

"""Read images, which are videos of one frame."""

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
"""Suffixes of image files."""

_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP")
"""Formats that are read, whatever the suffix. Some others of Pillow's run programs or open other files."""


def read_image(media: Media) -> Image.Image:
    """Read an image upright, or the first image of an animation.

    Returns:
        the image in RGB.

    Raises:
        DecodeError: the file is not an image, is broken, or would exhaust the memory.
    """
    try:
        with media.open("rb") as file, Image.open(file, formats=_FORMATS) as opened:
            ImageOps.exif_transpose(opened, in_place=True)
            opened.load()
            return opened if opened.mode == "RGB" else opened.convert("RGB")  # which copies even RGB
    except UnidentifiedImageError as error:
        raise DecodeError(f"{media} cannot be decoded: unknown format. Is it an image, and whole?") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DecodeError(f"{media} cannot be decoded: {error}. Is it an image, and whole?") from error


def resize(image: Image.Image, height: int, width: int) -> np.ndarray:
    """Scale an image bilinearly.

    Returns:
        RGB values, uint8 of shape (height, width, 3).
    """
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image)

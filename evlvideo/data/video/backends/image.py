"""Pictures, which are videos of one frame."""

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
"""Names of files that are pictures."""

_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP")
"""What is read of those that Pillow reads, whatever a file calls itself: some others run programs or lead elsewhere."""


def read_image(media: Media) -> Image.Image:
    """Read a picture, upright, of an animation the first.

    Returns:
        the picture in RGB.

    Raises:
        DecodeError: the file is no picture, is broken, or is of a size made to exhaust the memory.
    """
    try:
        with media.open("rb") as file, Image.open(file, formats=_FORMATS) as picture:
            ImageOps.exif_transpose(picture, in_place=True)
            picture.load()
            return picture if picture.mode == "RGB" else picture.convert("RGB")  # which would copy what is RGB
    except UnidentifiedImageError as error:
        raise DecodeError(f"{media} cannot be decoded: unknown format. Is it a picture, and whole?") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DecodeError(f"{media} cannot be decoded: {error}. Is it a picture, and whole?") from error


def resize(picture: Image.Image, height: int, width: int) -> np.ndarray:
    """Scale a picture bilinearly.

    Returns:
        RGB values, uint8 of shape (height, width, 3).
    """
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(picture)

"""Pictures, which are videos of one frame."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from evlvideo.data.clip import DecodeError

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
"""Names of files that are pictures."""


def read_image(path: Path) -> np.ndarray:
    """Read a picture, upright, of an animation the first.

    Returns:
        RGB values, uint8 of shape (height, width, 3).

    Raises:
        DecodeError: the file is no picture, is broken, or is of a size made to exhaust the memory.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DecodeError(f"{path} cannot be decoded: {error}. Is it a picture, and whole?") from error


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale a picture (H, W, 3) bilinearly."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))

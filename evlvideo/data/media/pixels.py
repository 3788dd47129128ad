"""Convert pictures of any mode to RGB of 8 bits a channel."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes with more than 8 bits a channel. It converts them to RGB by cutting off all above 255."""
_WIDTHS = (1.0, 255.0, 65535.0, 2.0**31 - 1, 2.0**32 - 1)
"""Values of white that files use, where their format does not say."""
_HALF_A_STEP = 1 / 510
_LEAST_OF_8_BITS = 16.0
"""A float picture with a brightest value below it, and above 1, is no dark one of 8 bits, but brighter than white."""
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
"""TIFF's tag of what its values mean. Pillow inverts those of 8 bits and fewer."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB, with what is transparent on white, so that colors that nobody sees have no effect.

    Integers of 16 bits are scaled by 65535. Floats and integers of 32 bits are scaled by the first of 1 (floats alone),
    255 and 65535 that is not below the brightest value, and longer integers by their greatest. Color profiles are not
    applied.

    Args:
        image: loaded.

    Raises:
        ValueError: it has values of which white is not known (negative ones, not numbers, or a brightest float between
            1 and 16), or Pillow cannot convert its mode.
    """
    if image.mode in _DEEP:
        return _from_deep(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")  # which copies even RGB
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:  # Of 16 bits, of which Pillow keeps the upper 8.
        image.info["transparency"] = tuple(value >> 8 for value in key)
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")


def on_white(rgba: np.ndarray) -> np.ndarray:
    """Put pixels on white: uint8 `(height, width, 4)` → `(height, width, 3)`."""
    alpha = rgba[..., 3:].astype(np.uint16)
    color = rgba[..., :3] * alpha + 255 * (255 - alpha)
    mixed: np.ndarray = ((color + 127) // 255).astype(np.uint8)
    return mixed


def _from_deep(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    white = 65535.0 if image.mode.startswith("I;16") else _white_of(values, is_float=image.mode == "F")
    shades = values.astype(np.float64) / white
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        shades = 1 - shades
    gray = (shades * 255).clip(0, 255).round().astype(np.uint8)
    if isinstance(key := image.info.get("transparency"), int):
        gray[values == key] = 255
    return Image.fromarray(gray).convert("RGB")


def _white_of(values: np.ndarray, *, is_float: bool) -> float:
    least, most = float(values.min()), float(values.max())
    between = is_float and 1 + _HALF_A_STEP < most < _LEAST_OF_8_BITS
    # Not a number fails every comparison.
    if between or not (least >= -_HALF_A_STEP and most <= _WIDTHS[-1]):
        raise ValueError(
            f"its values are from {least:g} to {most:g}, and which of them is white is not known; save it with values "
            "from 0 to 1, or as integers of 8 or 16 bits"
        )
    widths = _WIDTHS if is_float else _WIDTHS[1:]
    return next(width for width in widths if most <= width + _HALF_A_STEP)

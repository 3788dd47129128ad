"""Modes of pictures, each compared with the same picture in 8 bits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from plain_png import write_png

from evlvideo.data.media.pixels import on_white, to_rgb

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
WIDE = RAMP.astype(np.uint16) * 257
GRAY = np.repeat(RAMP[..., None], 3, axis=-1)


def rgb(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        image.load()
        return np.asarray(to_rgb(image))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a.png", WIDE),
        ("a.tif", WIDE),
        ("a.jp2", WIDE),
        ("a.tif", WIDE.astype(np.int32)),
        ("a.tif", RAMP.astype(np.int32)),
        ("a.tif", (RAMP / 255).astype(np.float32)),
        ("a.tif", RAMP.astype(np.float32)),
        ("a.tif", WIDE.astype(np.float32)),
        ("a.tif", RAMP),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.dtype} to {value.max():g}",
)
def test_more_bits_are_scaled(name: str, values: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / name)
    assert np.array_equal(rgb(tmp_path / name), GRAY)


@pytest.mark.parametrize("color_type", [0, 2, 4, 6])
def test_sixteen_bits_a_channel(color_type: int, tmp_path: Path) -> None:
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[color_type]
    values = np.repeat(WIDE[..., None], channels, axis=-1)
    if channels in (2, 4):
        values[..., -1] = 65535
    assert np.array_equal(rgb(write_png(tmp_path / "a.png", values, color_type)), GRAY)


def test_white_may_be_zero(tmp_path: Path) -> None:
    for values in (WIDE, (RAMP / 255).astype(np.float32)):
        Image.fromarray(values).save(tmp_path / "a.tif")
        content = (tmp_path / "a.tif").read_bytes()
        black_is_zero = b"\x06\x01\x03\x00\x01\x00\x00\x00\x01\x00"
        assert content.count(black_is_zero) == 1
        (tmp_path / "a.tif").write_bytes(content.replace(black_is_zero, black_is_zero[:8] + b"\0\0"))
        assert np.array_equal(rgb(tmp_path / "a.tif"), 255 - GRAY)


@pytest.mark.parametrize("most", [1.5, 12.0, -1.0, float("nan"), float("inf"), 1e12])
def test_values_without_a_scale_are_refused(most: float, tmp_path: Path) -> None:
    values = np.full((4, 4), 0.5, np.float32)
    values[0, 0] = most
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="which of them is white is not known; save it with values from 0 to 1"):
        rgb(tmp_path / "a.tif")


def with_hidden(hidden: tuple[int, int, int]) -> np.ndarray:
    """A red square on nothing, of a color that nobody sees."""
    pixels = np.empty((24, 24, 4), np.uint8)
    pixels[:] = (*hidden, 0)
    pixels[8:16, 8:16] = (200, 30, 30, 255)
    return pixels


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.avif", "a.jp2"])
def test_hidden_colors_have_no_effect(name: str, tmp_path: Path) -> None:
    expected = np.full((24, 24, 3), 255)
    expected[8:16, 8:16] = (200, 30, 30)
    options: dict[str, Any] = {"a.webp": {"lossless": True, "exact": True}, "a.avif": {"quality": 100}}.get(name, {})
    for hidden in ((0, 255, 0), (0, 0, 0), (255, 255, 255)):
        Image.fromarray(with_hidden(hidden)).save(tmp_path / name, **options)
        result = rgb(tmp_path / name).astype(int)
        assert np.abs(result - expected)[[2, 12], [2, 12]].max() <= (8 if name == "a.avif" else 0)
        assert (result[:7] == 255).all()


def test_half_transparency_is_mixed_with_white(tmp_path: Path) -> None:
    pixels = np.full((2, 2, 4), (100, 0, 200, 128), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = np.round(pixels[..., :3] * (128 / 255) + 255 * (127 / 255))
    assert np.abs(rgb(tmp_path / "a.png") - expected).max() <= 1
    assert np.abs(on_white(pixels) - expected).max() <= 1


def test_gray_with_transparency(tmp_path: Path) -> None:
    Image.fromarray(np.stack([RAMP, np.where(RAMP < 128, 0, 255).astype(np.uint8)], axis=-1)).save(tmp_path / "a.png")
    assert np.array_equal(rgb(tmp_path / "a.png"), np.where(GRAY < 128, 255, GRAY))


@pytest.mark.parametrize(("color_type", "bits", "key"), [(0, 8, 7), (0, 16, 7 * 257), (2, 8, 7), (2, 16, 7 * 257)])
def test_a_color_may_stand_for_transparency(color_type: int, bits: int, key: int, tmp_path: Path) -> None:
    values = RAMP if bits == 8 else WIDE
    values = np.repeat(values[..., None], 3 if color_type == 2 else 1, axis=-1)
    path = write_png(tmp_path / "a.png", values, color_type, transparent=[key] * values.shape[-1])
    assert np.array_equal(rgb(path), np.where(GRAY == 7, 255, GRAY))


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_palettes_with_transparency(transparency: int | bytes, tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 0, 255, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=transparency)
    assert rgb(tmp_path / "a.png").tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_one_bit_and_cmyk(tmp_path: Path) -> None:
    Image.fromarray(RAMP > 127).save(tmp_path / "a.png")
    assert np.array_equal(rgb(tmp_path / "a.png"), np.where(GRAY > 127, 255, 0))
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(rgb(tmp_path / "a.jpg").astype(int) - (255, 0, 0)).max() < 8


def test_rgb_stays_the_same_object() -> None:
    image = Image.fromarray(GRAY)
    assert to_rgb(image) is image

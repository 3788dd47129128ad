"""Tiles of HEIC and AVIF are one picture."""

import random
from pathlib import Path

import numpy as np
import pytest
from heif_grid import KINDS, write_grid
from numbered import can_encode
from PIL import Image

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.backends.heif import read_heif
from evlvideo.data.video.decode import check_video, decode_frames

GRAYS = [[60, 110], [160, 210]]
pytestmark = pytest.mark.skipif(
    not all(can_encode(encoder) for encoder, _, _ in KINDS.values()), reason="PyAV here has no encoder"
)


def quadrants(pixels: np.ndarray) -> list[list[int]]:
    height, width = pixels.shape[:2]
    return [[int(pixels[y, x].mean()) for x in (width // 4, 3 * width // 4)] for y in (height // 4, 3 * height // 4)]


def pixels_of(path: Path) -> np.ndarray:
    return decode_frames(path, lambda frames, rate: [0]).frames[0]


@pytest.mark.parametrize("brand", KINDS)
@pytest.mark.parametrize("suffix", ["heic", "avif", "jpg", "mp4"])
def test_tiles_are_put_together(brand: str, suffix: str, tmp_path: Path) -> None:
    path = write_grid(tmp_path / f"picture.{suffix}", GRAYS, brand=brand)
    pixels = pixels_of(path)
    assert pixels.shape == (128, 128, 3)
    assert np.allclose(quadrants(pixels), GRAYS, atol=2)
    assert check_video(path) == 1


@pytest.mark.parametrize("brand", KINDS)
def test_what_lies_beyond_the_picture_is_cut_off(brand: str, tmp_path: Path) -> None:
    pixels = pixels_of(write_grid(tmp_path / "a.heic", GRAYS, brand=brand, size=(100, 90)))
    assert pixels.shape == (90, 100, 3)
    assert np.allclose(pixels[[0, 0, -1, -1], [0, -1, 0, -1], 0], [60, 110, 160, 210], atol=2)


@pytest.mark.parametrize("properties", [[(b"irot", 1)], [(b"irot", 3)], [(b"imir", 0)], [(b"imir", 1)]])
def test_it_is_turned_as_libavif_turns_it(properties: list[tuple[bytes, int]], tmp_path: Path) -> None:
    picture = write_grid(tmp_path / "a.avif", GRAYS, brand="avif", properties=properties)
    theirs = quadrants(pixels_of(picture))  # By Pillow, which uses libavif.
    assert not np.allclose(theirs, GRAYS, atol=20)
    assert np.allclose(quadrants(np.asarray(read_heif(picture))), theirs, atol=2)
    heic = write_grid(tmp_path / "a.heic", GRAYS, properties=properties)
    assert np.allclose(quadrants(pixels_of(heic)), theirs, atol=2)


def test_transparency_is_as_libavif_has_it(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[:32] = (200, 30, 30, 255)
    pixels[32:] = (0, 255, 0, 0)
    path = tmp_path / "a.avif"
    Image.fromarray(pixels).save(path, quality=95)
    ours, theirs = np.asarray(read_heif(path)).astype(int), pixels_of(path)
    assert np.abs(ours - theirs)[[10, 50]].max() <= 3
    assert (ours[50] == 255).all()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7, 0.95])
def test_a_picture_cut_short_is_refused(share: float, tmp_path: Path) -> None:
    path = write_grid(tmp_path / "a.heic", GRAYS)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DecodeError, match=r"a\.heic cannot be decoded: .* Is it an image, and whole\?"):
        pixels_of(path)


@pytest.mark.parametrize("size", [(129, 128), (128, 500), (65535, 65535)])
def test_a_size_that_the_tiles_do_not_fill_is_refused(size: tuple[int, int], tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"tiles do not fill|pixels"):
        pixels_of(write_grid(tmp_path / "a.heic", GRAYS, size=size))


def test_damage_costs_no_more_than_the_file(tmp_path: Path) -> None:
    path = write_grid(tmp_path / "a.heic", GRAYS)
    whole, draw = path.read_bytes(), random.Random(0)
    for _ in range(150):
        content = bytearray(whole)
        for _ in range(draw.randrange(1, 4)):
            content[draw.randrange(700)] = draw.randrange(256)  # Where the list of parts is.
        path.write_bytes(content)
        try:
            assert decode_frames(path, lambda frames, rate: [0], 8).frames.shape == (1, 8, 8, 3)
        except DecodeError as error:
            assert str(error).startswith(f"{path} ")


def test_tiles_that_would_exhaust_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_grid(tmp_path / "a.heic", GRAYS, size=(10, 10))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(DecodeError, match=r"it has 8,192 pixels"):
        pixels_of(path)

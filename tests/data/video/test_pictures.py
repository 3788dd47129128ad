"""Images and animations: read by content, in listed formats alone, with what is transparent on white."""

import gzip
import io
import random
import zipfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numbered import can_encode, render
from PIL import Image
from tiny_shards import write_shard

from evlvideo.data.loading.shards.clips import ShardClips
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.decode import check_video, decode_frames
from evlvideo.data.video.guarded import decode_frames_guarded

SHADES = [20, 45, 70, 95, 120]
MILLISECONDS = [100, 200, 300, 400, 500]
STARTS = [0.0, 0.1, 0.3, 0.6, 1.0]
ANIMATIONS: dict[str, dict[str, Any]] = {
    "a.gif": {},
    "a.png": {},
    "a.webp": {"lossless": True},
    "a.avif": {"quality": 100},
}


def animation(path: Path, shades: Sequence[int] = SHADES, **options: Any) -> Path:
    frames = [Image.new("RGB", (40, 30), (shade, shade, shade)) for shade in shades]
    options = {"duration": MILLISECONDS[: len(shades)], **ANIMATIONS[f"a{path.suffix}"], **options}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    return path


def every(frames: int, rate: float) -> range:
    return range(frames)


def first(frames: int, rate: float) -> list[int]:
    return [0]


def shades_of(frames: np.ndarray) -> list[int]:
    return [int(frame.mean()) for frame in frames]


@pytest.mark.parametrize("name", ANIMATIONS)
def test_an_animation_has_its_frames(name: str, tmp_path: Path) -> None:
    path = animation(tmp_path / name)
    clip = decode_frames(path, every)
    assert np.allclose(shades_of(clip.frames), SHADES, atol=2)
    assert np.allclose(clip.timestamps_seconds, STARTS)
    if name != "a.gif":  # Frames of videos that are counted have no duration of their own.
        assert clip.metadata.duration_seconds == pytest.approx(1.5)
    assert (clip.metadata.frames, clip.metadata.rate) == (5, pytest.approx(4.0))
    assert np.allclose(shades_of(decode_frames(path, lambda frames, rate: [3, 1, 3], 16).frames), [95, 45, 95], atol=2)
    assert check_video(path) == 5


@pytest.mark.parametrize("name", ANIMATIONS)
def test_a_part_of_an_animation(name: str, tmp_path: Path) -> None:
    clip = decode_frames(animation(tmp_path / name), every, start_seconds=0.1, end_seconds=0.6)
    assert clip.indices == (1, 2)
    assert np.allclose(shades_of(clip.frames), [45, 70], atol=2)


def test_the_image_before_an_animation_is_not_of_it(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (40, 30), (shade,) * 3) for shade in (0, 100, 200)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:], default_image=True)
    assert shades_of(decode_frames(tmp_path / "a.png", every).frames) == [100, 200]


def test_frames_without_a_duration_follow_each_other(tmp_path: Path) -> None:
    clip = decode_frames(animation(tmp_path / "a.webp", duration=0), every)
    assert np.allclose(clip.timestamps_seconds, np.arange(5) / 10)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.gif", "a.avif"])
def test_hidden_colors_of_animations_have_no_effect(name: str, tmp_path: Path) -> None:
    frames = []
    for shade in SHADES:
        pixels = np.full((30, 40, 4), (shade, shade, shade, 255), np.uint8)
        pixels[:15] = (0, 255, 0, 0)
        frames.append(Image.fromarray(pixels))
    options = {**ANIMATIONS[name], "disposal": 2}
    if name in ("a.webp", "a.avif"):
        del options["disposal"]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=100, **options)
    clip = decode_frames(tmp_path / name, every)
    assert (clip.frames[:, 5] >= 253).all()
    assert np.allclose(clip.frames[:, 25].mean((1, 2)), SHADES, atol=2)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mov", "prores_ks", "yuva444p10le"),
        ("a.mov", "qtrle", "argb"),
        ("a.mov", "png", "rgba"),
        ("a.mkv", "ffv1", "bgra"),
    ],
)
def test_hidden_colors_of_videos_have_no_effect(name: str, codec: str, pix_fmt: str, tmp_path: Path) -> None:
    if not can_encode(codec):
        pytest.skip(f"PyAV here has no encoder {codec}")
    pixels = np.full((48, 64, 4), (60, 60, 60, 255), np.uint8)
    pixels[:24] = (0, 255, 0, 0)
    with av.open(str(tmp_path / name), "w") as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    frames = decode_frames(tmp_path / name, lambda frames, rate: [0, 2], 24).frames
    assert (frames[:, :10] == 255).all()
    assert np.allclose(frames[:, 15:], 60, atol=2)


def test_hidden_colors_do_not_bleed_where_a_picture_is_scaled(tmp_path: Path) -> None:
    pixels = np.full((64, 64, 4), (0, 255, 0, 0), np.uint8)
    pixels[20:41, 20:41] = (200, 30, 30, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    small = decode_frames(tmp_path / "a.png", first, 16).frames[0].astype(int)
    assert (small[..., 1] <= small[..., 0]).all()  # Between red and white, there is no green.


@pytest.mark.parametrize("suffix", ["mp4", "png", "bin", "gif"])
def test_a_picture_is_known_by_its_content(suffix: str, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), (200, 100, 50)).save(tmp_path / f"a.{suffix}", "JPEG")
    assert decode_frames(tmp_path / f"a.{suffix}", first).metadata.codec == "jpeg"
    moving = animation(tmp_path / "a.gif").rename(tmp_path / f"b.{suffix}")
    assert decode_frames(moving, first).metadata.codec == "gif"


def test_a_stream_of_jpeg_pictures_is_a_video(tmp_path: Path) -> None:
    path = render(tmp_path / "a.mjpeg", 5, "mjpeg", pix_fmt="yuvj420p")
    assert decode_frames(path, first).metadata.frames == 5


@pytest.mark.parametrize("format_name", ["TIFF", "MPO"])
def test_pages_are_no_frames(format_name: str, tmp_path: Path) -> None:
    pages = [Image.new("RGB", (40, 30), (shade,) * 3) for shade in (200, 100)]
    path = tmp_path / ("a.tif" if format_name == "TIFF" else "a.jpg")
    pages[0].save(path, format_name, save_all=True, append_images=pages[1:])
    assert shades_of(decode_frames(path, every).frames) == [200]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.avif"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_pictures_are_upright(name: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32, :32] = 255
    Image.fromarray(pixels).save(tmp_path / name, exif=exif)
    frame = decode_frames(tmp_path / name, first).frames[0]
    assert np.abs(frame.astype(int) - np.rot90(pixels, {1: 0, 3: 2, 6: 3, 8: 1}[orientation])).mean() < 3


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(/tmp/x) (w) file\nshowpage\n"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file:///etc/hostname"/></svg>'


def zipped(content: bytes) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.png", content)
    return archive.getvalue()


OTHERS = {
    "EPS": EPS,
    "SVG": SVG,
    "compressed SVG": gzip.compress(SVG),
    "ZIP": zipped(SVG),
    "PPM": b"P6 1 1 255\n\0\0\0",
    "FLI": bytes(4) + b"\x12\xaf" + bytes(200),
    "PNG without pixels": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(8) + b"\x08\x02\0\0\0" + bytes(4),
    "nothing": b"\0" * 100,
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "heic", "mp4", "eps", "svg", "gif"])
@pytest.mark.parametrize("kind", OTHERS)
def test_other_formats_are_refused(kind: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: pytest.fail("a program is started"))
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(OTHERS[kind])
    with pytest.raises(DecodeError, match=r"a\.\w+ cannot be decoded: "):
        decode_frames(path, first)
    with pytest.raises(DecodeError):
        check_video(path)


def test_a_picture_that_would_exhaust_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (400, 400)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400 * 400 // 3)
    with pytest.raises(DecodeError, match="exceeds limit of"):
        decode_frames(tmp_path / "a.png", first)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.jp2", "a.avif", "a.bmp"])
def test_damage_costs_no_more_than_the_file(name: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    draw = random.Random(name)
    for _ in range(60):
        content = bytearray(whole)
        for _ in range(draw.randrange(1, 6)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        (tmp_path / name).write_bytes(content[: draw.randrange(len(content) // 2, len(content) + 1)])
        try:
            assert decode_frames(tmp_path / name, first, 8).frames.shape == (1, 8, 8, 3)
        except DecodeError as error:
            assert str(error).startswith(f"{tmp_path / name} ")


@pytest.mark.parametrize("name", ANIMATIONS)
def test_an_animation_cut_short_is_found(name: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(np.random.default_rng(k).integers(0, 256, (40, 30, 3), np.uint8)) for k in range(5)]
    path = tmp_path / name
    frames[0].save(path, save_all=True, append_images=frames[1:], **ANIMATIONS[name])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(DecodeError):
        check_video(path)


def member(folder: Path, name: str, path: Path) -> Any:
    return ShardClips([write_shard(folder / "0.tar", {f"a.{name}": path.read_bytes(), "a.txt": b"a"})])[0].video


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.gif"])
@pytest.mark.parametrize("suffix", ["png", "webp", "jpg", "mp4"])
def test_animations_in_shards_are_decoded_by_the_helper(name: str, suffix: str, tmp_path: Path) -> None:
    clip = decode_frames_guarded(member(tmp_path, suffix, animation(tmp_path / name)), every)
    assert np.allclose(shades_of(clip.frames), SHADES, atol=2)

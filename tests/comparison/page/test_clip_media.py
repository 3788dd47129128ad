import base64
import io

import numpy as np
import pytest
from PIL import Image

from evlvideo.comparison.page.clip_media import (
    FRAMES,
    PREVIEW_BYTES,
    PREVIEW_FRAMES,
    PREVIEW_SIDE,
    ByteBudget,
    ClipFrames,
    decode_frames,
    encode_jpeg,
    encode_png,
    encode_preview,
    gather_media,
    spread_images,
)
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.errors import UserError


def clip(name: str, folder) -> CaptionedClip:
    return CaptionedClip(clip_id=name, video=folder / f"{name}.mp4", captions=("a ball",))


def write_video(path, levels: list[int], rate: int = 10) -> None:
    """Write one grey frame for each level."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in levels:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def opened(address: str) -> Image.Image:
    head, _, data = address.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.mark.parametrize(
    ("height", "width", "shown"), [(480, 640, (128, 96)), (64, 64, (64, 64)), (300, 150, (64, 128))]
)
def test_images_keep_their_shape_and_stay_small(height, width, shown):
    picture = encode_jpeg(np.zeros((height, width, 3), np.uint8))
    assert (picture.width, picture.height) == shown
    assert opened(picture.address).size == shown


def noise(count: int, height: int = 96, width: int = 128) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 255, (height, width, 3), np.uint8) for _ in range(count)]


def played(address: str) -> list[np.ndarray]:
    head, _, data = address.partition(",")
    assert head == "data:video/mp4;base64"
    import av

    with av.open(io.BytesIO(base64.b64decode(data))) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_flat_colours_are_kept_exactly():
    pixels = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)
    picture = encode_png(pixels)
    data = base64.b64decode(picture.address.removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


def test_frames_are_spread_over_the_clip_in_order(tmp_path):
    write_video(tmp_path / "ramp.mp4", list(range(0, 200, 20)))
    decoded = decode_frames(clip("ramp", tmp_path))
    assert decoded.seconds == pytest.approx(1.0)
    assert len(decoded.frames) == 10
    shown = [float(np.asarray(opened(picture.address)).mean()) for picture in spread_images(decoded)]
    assert len(shown) == FRAMES
    assert shown == pytest.approx([0, 40, 100, 140], abs=6)


def test_a_long_clip_is_shown_whole_in_few_frames(tmp_path):
    write_video(tmp_path / "long.mp4", [index * 250 // 600 for index in range(600)], rate=20)
    decoded = decode_frames(clip("long", tmp_path))
    assert decoded.seconds == pytest.approx(30)
    assert len(decoded.frames) == PREVIEW_FRAMES
    assert [round(float(decoded.frames[place].mean())) for place in (0, -1)] == pytest.approx([0, 246], abs=6)
    preview = encode_preview(decoded)
    assert preview is not None
    assert preview.speed == pytest.approx(30 / (PREVIEW_FRAMES / 5))


def test_a_part_of_a_file_is_shown_alone(tmp_path):
    write_video(tmp_path / "ramp.mp4", list(range(0, 200, 10)))
    part = CaptionedClip("part", tmp_path / "ramp.mp4", ("a ball",), start_seconds=1.0, end_seconds=1.5)
    decoded = decode_frames(part)
    assert [round(float(frame.mean())) for frame in decoded.frames] == pytest.approx([100, 110, 120, 130, 140], abs=6)


def test_preview_clips_play_the_frames_at_the_clip_s_own_speed():
    levels = [0, 60, 120, 180, 240] * 4
    decoded = ClipFrames([np.full((90, 160, 3), level, np.uint8) for level in levels], seconds=2.0)
    preview = encode_preview(decoded)
    assert preview is not None
    assert (preview.width, preview.height, preview.speed) == (160, 90, 1.0)
    assert [float(frame.mean()) for frame in played(preview.address)] == pytest.approx(levels, abs=8)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(101, 75, (75 - 1, 100)), (720, 1280, (PREVIEW_SIDE, 90)), (1, 9, (8, 2))]
)
def test_films_have_even_sides_and_stay_small(height, width, size):
    preview = encode_preview(ClipFrames([np.zeros((height, width, 3), np.uint8)] * 3, seconds=1.0))
    assert preview is not None
    assert (preview.width, preview.height) == size


def test_films_that_are_too_large_are_left_out():
    decoded = ClipFrames(noise(PREVIEW_FRAMES, 120, 160), seconds=6.0)
    preview = encode_preview(decoded)
    assert preview is None or len(preview.address) <= PREVIEW_BYTES
    assert encode_preview(decoded, most_bytes=2000) is None


@pytest.mark.parametrize("decoded", [ClipFrames(noise(1), 3.0), ClipFrames(noise(4), 0.0), ClipFrames([], 0.0)])
def test_pictures_do_not_play(decoded):
    assert encode_preview(decoded) is None


def test_clips_that_cannot_be_read_are_named_with_the_reason(tmp_path):
    def read_frames(wanted: CaptionedClip) -> ClipFrames:
        if wanted.clip_id == "bad":
            raise UserError("bad.mp4 is cut off.")
        return ClipFrames([np.zeros((8, 8, 3), np.uint8)] * 2)

    made = gather_media([clip("good", tmp_path), clip("bad", tmp_path)], ByteBudget(10**6), read_frames)
    assert (made["bad"].problem, made["bad"].images) == ("bad.mp4 is cut off.", ())
    assert (made["good"].problem, len(made["good"].images), made["good"].preview) == ("", 2, None)


def test_a_missing_video_is_named(tmp_path):
    assert "gone.mp4" in gather_media([clip("gone", tmp_path)], ByteBudget(10**6))["gone"].problem


def weight(media) -> int:
    addresses = [picture.address for picture in media.images]
    return sum(map(len, addresses)) + (len(media.preview.address) + len(media.poster.address) if media.preview else 0)


@pytest.mark.parametrize("total", [0, 60_000, 200_000, 10**7])
def test_what_a_page_takes_in_stays_within_its_budget(tmp_path, total):
    clips = [clip(str(index), tmp_path) for index in range(12)]
    asked = []

    def read_frames(wanted: CaptionedClip) -> ClipFrames:
        asked.append(wanted.clip_id)
        return ClipFrames([np.full((96, 128, 3), 20 * place, np.uint8) for place in range(12)], 1.0)

    one = weight(gather_media(clips[:1], ByteBudget(10**7), read_frames)["0"])
    asked.clear()
    made = gather_media(clips, ByteBudget(total), read_frames)
    assert sum(map(weight, made.values())) <= total
    if total > 12 * one:
        assert all(media.preview for media in made.values())


def test_preview_clips_give_way_before_images_do_and_nothing_is_decoded_in_vain(tmp_path):
    clips = [clip(str(index), tmp_path) for index in range(6)]
    asked = []

    def read_frames(wanted: CaptionedClip) -> ClipFrames:
        asked.append(wanted.clip_id)
        return ClipFrames(noise(16), 1.5)

    pictures = sum(len(picture.address) for picture in spread_images(read_frames(clips[0])))
    asked.clear()
    made = list(gather_media(clips, ByteBudget(3 * pictures + 10), read_frames).values())
    assert [bool(media.images) for media in made] == [True] * 3 + [False] * 3
    assert not any(media.preview for media in made)
    assert len(asked) == 4

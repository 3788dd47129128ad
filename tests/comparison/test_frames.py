import base64
import io

import numpy as np
import pytest
from PIL import Image

from evlvideo.comparison.frames import FRAMES, encode, filmstrips, sampled_frames
from evlvideo.data.annotations import CaptionedClip
from evlvideo.errors import UserError


def clip(name: str, folder) -> CaptionedClip:
    return CaptionedClip(clip_id=name, video=folder / f"{name}.mp4", captions=("a ball",))


def write_video(path, levels: list[int]) -> None:
    """Write one grey frame for each level."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
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
def test_pictures_keep_their_shape_and_stay_small(height, width, shown):
    picture = encode(np.zeros((height, width, 3), np.uint8))
    assert (picture.width, picture.height) == shown
    assert opened(picture.address).size == shown


def test_frames_are_spread_over_the_clip_in_order(tmp_path):
    write_video(tmp_path / "ramp.mp4", list(range(0, 200, 20)))
    frames = sampled_frames(clip("ramp", tmp_path))
    levels = [float(frame.mean()) for frame in frames]
    assert len(frames) == FRAMES
    assert levels == pytest.approx([0, 40, 100, 140], abs=6)


def test_clips_that_cannot_be_read_are_named_with_the_reason(tmp_path):
    def frames_for(wanted: CaptionedClip) -> list[np.ndarray]:
        if wanted.clip_id == "bad":
            raise UserError("bad.mp4 is cut off.")
        return [np.zeros((8, 8, 3), np.uint8)] * 2

    strips = filmstrips([clip("good", tmp_path), clip("bad", tmp_path)], frames_for)
    assert strips.problems == {"bad": "bad.mp4 is cut off."}
    assert {name: len(pictures) for name, pictures in strips.pictures.items()} == {"good": 2}


def test_a_missing_video_is_named(tmp_path):
    assert "gone.mp4" in filmstrips([clip("gone", tmp_path)]).problems["gone"]

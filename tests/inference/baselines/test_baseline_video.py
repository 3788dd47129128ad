from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toy_run import Toy

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.video.decode import decode_frames
from evlvideo.data.video.sampling import SAMPLERS
from evlvideo.inference.baselines.video import Video, VideoDataset


def item(clip: CaptionedClip, frames: int = 4) -> dict[str, Any]:
    return VideoDataset([clip], num_frames=frames, sampler=SAMPLERS["uniform"])[0]


def read(clip: CaptionedClip, frames: int = 4) -> Video:
    video = item(clip, frames)["video"]
    assert isinstance(video, Video)
    return video


def test_frames_have_the_size_of_the_file_and_their_places(toy: Toy) -> None:
    clip = toy.clips("test")[0]
    found = read(clip)
    whole = decode_frames(clip.video, lambda frames, rate: list(range(frames)))
    assert found.metadata.frames_indices == [place * len(whole.frames) // 4 for place in range(4)]
    assert np.array_equal(found.frames, whole.frames[found.metadata.frames_indices])
    assert (found.metadata.fps, found.metadata.total_num_frames) == (whole.metadata.rate, whole.metadata.frames)


def test_the_time_of_a_part_of_a_file_starts_at_its_beginning(toy: Toy) -> None:
    clip = toy.clips("test")[0]
    found = read(CaptionedClip("part", clip.video, clip.captions, start_seconds=0.5, end_seconds=1.0), frames=2)
    assert found.metadata.frames_indices == [0, 4]
    assert (found.metadata.fps, found.metadata.total_num_frames) == (16.0, 8)


def test_an_image_is_a_video_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 30, 3), 7, np.uint8)).save(tmp_path / "picture.png")
    found = read(CaptionedClip("picture", tmp_path / "picture.png", ("a",)), frames=1)
    assert (found.frames.shape, found.metadata.frames_indices, found.metadata.fps, found.metadata.total_num_frames) == (
        (1, 20, 30, 3),
        [0],
        1.0,
        1,
    )


@pytest.mark.parametrize("content", [b"", b"no video"])
def test_a_clip_that_cannot_be_decoded_says_why(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.mp4").write_bytes(content)
    found = item(CaptionedClip("broken", tmp_path / "broken.mp4", ("a",)))
    assert found["clip_id"] == "broken" and "broken.mp4" in found["bad"]

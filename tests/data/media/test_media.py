import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds_of_video import KINDS
from numbered import numbers_of, render
from PIL import Image
from tiny_shards import write_shard

from evlvideo.data.loading.shards.clips import ShardClips
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import TarMember, state_of
from evlvideo.data.video.decode import BACKENDS, check_video, decode_frames
from evlvideo.data.video.guarded import decode_frames_guarded
from evlvideo.errors import UserError

FRAMES = 60
NUMBERS = [0, 7, 31, 31, FRAMES - 1]


def choose(frames: int, rate: float) -> list[int]:
    return NUMBERS


@pytest.fixture(autouse=True)
def no_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TarMember, "as_file", lambda self: pytest.fail("a temporary file is written"))


def member(folder: Path, name: str, content: bytes) -> TarMember:
    """The media of a sample between two others."""
    members = {"a.mp4": b"before", "a.txt": b"a", f"b.{name}": content, "b.txt": b"b", "c.mp4": b"after", "c.txt": b"c"}
    return ShardClips([write_shard(folder / name / "00000.tar", members)])[1].video


@pytest.fixture
def video(tmp_path: Path) -> TarMember:
    return member(tmp_path, "mp4", render(tmp_path / "clip.mp4", FRAMES, options={"g": "20"}).read_bytes())


IN_SHARDS = [kind for kind, (suffix, _) in KINDS.items() if suffix in ("mp4", "webm", "mkv", "avi", "mov")]


@pytest.mark.parametrize("kind", IN_SHARDS)
def test_a_video_inside_a_shard_is_decoded_as_a_file_is(kind: str, tmp_path: Path) -> None:
    suffix, arguments = KINDS[kind]
    path = render(tmp_path / f"clip.{suffix}", FRAMES, **arguments)
    inside, outside = member(tmp_path, suffix, path.read_bytes()), decode_frames(path, choose, 48)
    for _ in range(2):  # The second time with a cached index.
        clip = decode_frames(inside, choose, 48)
        np.testing.assert_array_equal(clip.frames, outside.frames)
        np.testing.assert_array_equal(clip.timestamps_seconds, outside.timestamps_seconds)
        assert (clip.indices, clip.metadata) == (outside.indices, outside.metadata)


def test_the_helper_decodes_it(video: TarMember) -> None:
    assert numbers_of(decode_frames_guarded(video, choose).frames) == NUMBERS
    assert check_video(video) == FRAMES


def test_an_image_inside_a_shard_is_decoded_without_the_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    Image.new("RGB", (60, 40), (200, 100, 50)).save(content, "PNG")
    picture = member(tmp_path, "png", content.getvalue())
    monkeypatch.setattr(
        "evlvideo.data.video.guarded._helper_of_this_process", lambda: pytest.fail("the helper is asked")
    )
    frames = decode_frames_guarded(picture, lambda frames, rate: [0, 0], 20, keep_aspect=True).frames
    assert frames.shape == (2, 20, 30, 3)
    assert (frames == (200, 100, 50)).all()


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "torchcodec"])
def test_other_backends_decode_it_too(
    video: TarMember, backend: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.undo()  # These open paths alone.
    if backend == "decord":
        pytest.importorskip("decord")
    assert numbers_of(decode_frames(video, choose, backend=backend).frames) == NUMBERS


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    text = member(tmp_path, "mp4", b"404 Not Found\n" * 50)
    with pytest.raises(DecodeError, match=r"^b\.mp4 in .*00000\.tar cannot be decoded: Invalid data"):
        decode_frames(text, choose)
    with pytest.raises(DecodeError, match=r"^b\.jpg in .*00000\.tar cannot be decoded: .* Is it an image"):
        decode_frames(member(tmp_path, "jpg", b"no picture"), lambda frames, rate: [0])


@pytest.mark.parametrize("target", ["file:///etc/hostname", "/etc/hostname", "http://127.0.0.1:9/a.ts"])
def test_a_playlist_inside_a_shard_leads_nowhere(tmp_path: Path, target: str) -> None:
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"
    with pytest.raises(DecodeError):
        decode_frames(member(tmp_path, "mp4", playlist.encode()), choose)


def test_a_playlist_inside_a_shard_reaches_no_video_beside_it(tmp_path: Path) -> None:
    other = render(tmp_path / "other.ts", 30)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other}\n#EXT-X-ENDLIST\n"
    with pytest.raises(DecodeError):
        decode_frames(member(tmp_path, "mp4", playlist.encode()), choose)


def test_images_are_of_common_formats_alone(tmp_path: Path) -> None:
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(DecodeError, match="unknown format"):
        decode_frames(member(tmp_path, "jpg", script), lambda frames, rate: [0])


def test_a_stream_ends_with_its_member(video: TarMember) -> None:
    whole = video.read()
    with video.open() as stream:
        assert stream.read() == whole
        assert stream.read(1) == b""
        assert stream.seek(-10, io.SEEK_END) == len(whole) - 10
        assert stream.read(100) == whole[-10:]
        stream.seek(5)
        stream.seek(3, io.SEEK_CUR)
        assert stream.read(4) == whole[8:12]
        with pytest.raises(OSError):
            stream.seek(-1)


def test_a_shard_that_is_gone_is_no_bad_clip(video: TarMember) -> None:
    video.shard.unlink()
    with pytest.raises(UserError, match="cannot be read: No such file") as caught:
        decode_frames_guarded(video, choose)
    assert not isinstance(caught.value, DecodeError)


def test_members_and_shards_have_states_of_their_own(tmp_path: Path) -> None:
    clips = ShardClips([write_shard(tmp_path / "a.tar", {"a.mp4": b"a", "a.txt": b"a", "b.mp4": b"b", "b.txt": b"b"})])
    states: list[Any] = [state_of(clip.video) for clip in clips]
    assert states[0] != states[1]
    assert states[0] == state_of(clips[0].video)

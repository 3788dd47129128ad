"""Whatever a file contains, no other file is opened."""

import struct
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from numbered import render
from tiny_shards import write_shard

from evlvideo.data.loading.shards.clips import ShardClips
from evlvideo.data.media.containers import FORMATS, open_container
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.decode import decode_frames

CONCAT = "ffconcat version 1.0\nfile {name}\n"
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{path}\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT1S" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet contentType="video">'
    '<Representation id="1" mimeType="video/mp4"><BaseURL>{path}</BaseURL></Representation></AdaptationSet></Period>'
    "</MPD>"
)
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
IMF = (
    '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Id>urn:uuid:'
    "0</Id><EditRate>24 1</EditRate><SegmentList/></CompositionPlaylist>"
)
VOBSUB = "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\ntimestamp: 00:00:00:000, filepos: 0\n"
LISTS = {"concat": CONCAT, "hls": HLS, "dash": DASH, "sdp": SDP, "imf": IMF, "vobsub": VOBSUB}


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A video that another file names."""
    return render(tmp_path / "other.ts", 12)


def listing(kind: str, other: Path) -> str:
    return LISTS[kind].format(path=other, name=other.name)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.m3u8", "clip.ffconcat", "clip.ts", "clip"])
@pytest.mark.parametrize("kind", LISTS)
def test_lists_of_files_are_refused_by_content(kind: str, name: str, other: Path) -> None:
    path = other.with_name(name)
    path.write_text(listing(kind, other))
    with pytest.raises(DecodeError, match="cannot be decoded"):
        decode_frames(path, lambda frames, rate: [0])


def test_the_message_says_what_a_playlist_is(other: Path) -> None:
    path = other.with_name("clip.mp4")
    path.write_text(listing("concat", other))
    with pytest.raises(DecodeError, match=r"clip\.mp4 cannot be decoded: it is a playlist, which names other files"):
        decode_frames(path, lambda frames, rate: [0])


@pytest.mark.parametrize("kind", LISTS)
def test_lists_in_shards_are_refused(kind: str, other: Path) -> None:
    content = listing(kind, other).encode()
    member = ShardClips([write_shard(other.with_name("0.tar"), {"a.mp4": content, "a.txt": b"a"})])[0].video
    with pytest.raises(DecodeError, match=r"a\.mp4 in .* cannot be decoded"):
        decode_frames(member, lambda frames, rate: [0])


def test_a_name_with_a_pattern_is_no_image_sequence(tmp_path: Path) -> None:
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (16, 16)).save(tmp_path / f"frame{number}.bmp")
    path = tmp_path / "frame%d.bmp"
    path.write_bytes(b"no picture")
    with av.open(str(path)) as container:
        assert container.format.name == "image2"
    with pytest.raises((DecodeError, av.FFmpegError)):
        open_container(path)


def test_a_movie_that_refers_to_another_shows_nothing_of_it(tmp_path: Path) -> None:
    other = render(tmp_path / "other.mov", 12)
    path = tmp_path / "clip.mov"
    path.write_bytes(referring(other.read_bytes(), "other.mov"))
    with av.open(str(path), container_options={"enable_drefs": "1"}) as container:
        assert len(list(container.decode(video=0))) == 12  # The reference is one that FFmpeg can follow.
    with pytest.raises(DecodeError):
        decode_frames(path, lambda frames, rate: [0])


def referring(movie: bytes, name: str) -> bytes:
    """Let a movie's samples lie in another file, as editing programs do: an alias instead of the samples."""
    path = b":" + name.encode()
    alias = bytes(10) + bytes([0]) + bytes(27) + bytes(12) + bytes([len(name)]) + name.encode().ljust(63, b"\0")
    alias += bytes(16) + struct.pack(">HH", 1, 1) + bytes(16)
    alias += struct.pack(">HH", 2, len(path)) + path.ljust(len(path) + len(path) % 2, b"\0") + b"\xff\xff\0\0"
    entry = struct.pack(">I4sI", 12 + len(alias), b"alis", 0) + alias
    start = movie.index(b"dref") - 4
    old = int.from_bytes(movie[start : start + 4], "big")
    new = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    head = bytearray(movie[:start])
    for parent in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        place = movie.index(parent) - 4
        size = int.from_bytes(movie[place : place + 4], "big") + len(new) - old
        head[place : place + 4] = size.to_bytes(4, "big")
    content = movie.index(b"mdat") + 4
    end = content - 8 + int.from_bytes(movie[content - 8 : content - 4], "big")
    head[content:end] = bytes(end - content)
    return bytes(head) + new + movie[start + old :]


@pytest.mark.parametrize("name", FORMATS)
def test_the_listed_formats_are_known_here(name: str) -> None:
    assert av.format.ContainerFormat(name, "r").is_input


def test_no_other_module_opens_a_video() -> None:
    package = Path(__file__).parents[3] / "evlvideo"
    opening: Callable[[Path], bool] = lambda path: "av.open(" in path.read_text(encoding="utf-8")  # noqa: E731
    reading = [path.relative_to(package).as_posix() for path in package.rglob("*.py") if opening(path)]
    assert sorted(reading) == ["comparison/page/clip_media.py", "data/media/containers.py", "mini/build.py"]

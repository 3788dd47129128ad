"""A whole check finds what decoders conceal, and has no false alarms."""

import random
from pathlib import Path

import av
import numpy as np
import pytest
from fields import write_fields
from kinds_of_video import FRAMES, KINDS, OPEN_H264, OPEN_HEVC, REFRESH
from numbered import can_encode, cut_without_encoding, render, without_first_packets
from remuxed import remuxed, shown_when_stored, split_in_time

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.decode import check_video, decode_frames

VP9 = {"deadline": "realtime", "cpu-used": "8", "g": "30"}


def noise(path: Path, codec: str, options: dict[str, str]) -> Path:
    """Render noise that moves, whose frames are large."""
    if not can_encode(codec):
        pytest.skip(f"PyAV here has no encoder {codec}")
    picture = np.random.default_rng(1).integers(0, 255, (24, 32, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 256, 192, "yuv420p"
        for number in range(40):
            moved = np.ascontiguousarray(np.roll(picture, 3 * number, 1))
            file.mux(stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")))
        file.mux(stream.encode())
    return path


def holed(path: Path, seed: int) -> Path:
    """Overwrite part of a stored frame."""
    with av.open(str(path)) as file:
        packets = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
    chance, content = random.Random(seed), bytearray(path.read_bytes())
    place, size = packets[seed % len(packets)]
    start, end = place + size // 3, place + size
    content[start:end] = bytes(end - start) if seed % 2 else chance.randbytes(end - start)
    damaged = path.with_name(f"damaged-{seed}{path.suffix}")
    damaged.write_bytes(content)
    return damaged


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("h264.mp4", "libx264", {"g": "50"}),
        ("h264.mkv", "libx264", {"g": "50"}),
        ("mpeg4.avi", "mpeg4", {"g": "50"}),
        ("vp9.webm", "libvpx-vp9", VP9),
    ],
)
def test_damage_that_decoders_conceal_is_found(name: str, codec: str, options: dict[str, str], tmp_path: Path) -> None:
    path = noise(tmp_path / name, codec, options)
    assert check_video(path) == 40
    for seed in range(3, 40, 4):
        with pytest.raises(DecodeError, match=rf"damaged-{seed}\."):
            check_video(holed(path, seed))


def test_the_damaged_frame_is_named(tmp_path: Path) -> None:
    path = noise(tmp_path / "clip.mp4", "libx264", {"g": "50", "bf": "0"})
    with av.open(str(path)) as file:
        packet = [packet for packet in file.demux(video=0) if packet.size][22]
        content = bytearray(path.read_bytes())
    for place in range(packet.pos + packet.size // 2, packet.pos + packet.size, 37):
        content[place] ^= 0x10
    path.write_bytes(content)
    assert decode_frames(path, lambda frames, seconds: range(frames)).metadata.frames == 40
    with pytest.raises(DecodeError, match=r"frame 22 of 40, at 0\.88 s, is damaged\. Is the file whole\?"):
        check_video(path)


def test_what_the_reader_of_matroska_passes_over_is_found(tmp_path: Path) -> None:
    path = noise(tmp_path / "clip.webm", "libvpx-vp9", VP9)
    with av.open(str(path)) as file:
        places = [packet.pos for packet in file.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    content[places[20] - 6 : places[20]] = bytes(6)
    path.write_bytes(content)
    with pytest.raises(DecodeError, match="was cut off or damaged"):
        check_video(path)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_of_every_kind_pass(kind: str, tmp_path: Path) -> None:
    suffix, arguments = KINDS[kind]
    assert check_video(render(tmp_path / f"clip.{suffix}", FRAMES, **arguments)) == FRAMES


@pytest.mark.parametrize("packets", [1, 10, 28, 40])
@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("mkv", "libx264", OPEN_H264),
        ("mp4", "libx264", REFRESH),
        ("mp4", "libx265", OPEN_HEVC),
        ("ts", "mpeg2video", {"bf": "2", "g": "15"}),
    ],
)
def test_a_file_that_begins_within_a_group_is_not_damaged(
    suffix: str, codec: str, options: dict[str, str], packets: int, tmp_path: Path
) -> None:
    whole = render(tmp_path / f"whole.{suffix}", FRAMES, codec, options)
    path = without_first_packets(whole, tmp_path / f"cut.{suffix}", packets)
    frames = decode_frames(path, lambda frames, seconds: range(frames)).metadata.frames
    assert check_video(path) == frames


def test_neither_are_odd_but_whole_files(tmp_path: Path) -> None:
    whole = render(tmp_path / "whole.mp4", 60, options={"g": "12"})
    assert check_video(cut_without_encoding(whole, tmp_path / "cut.mp4", hidden=20, rate=25)) == 40
    assert check_video(write_fields(tmp_path / "fields.ts", 24)) == 24
    assert check_video(split_in_time(whole, tmp_path / "back.ts", at=36, back=20)) == 60
    assert check_video(remuxed(whole, tmp_path / "dump.flv", shown_when_stored)) == 60

"""Frames of files whose times or packets mislead are those of decoding from the start, in that order."""

import random
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from fields import luma, write_fields
from kinds_of_video import HEVC
from numbered import can_encode, numbers_of, render
from remuxed import packet_like, remuxed, shown_when_stored, split_in_time

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.decode import decode_frames, open_video
from evlvideo.data.video.index import VideoIndex

FRAMES = 60
PLAIN = {"g": "20", "bf": "0"}
WITH_B = {"x264-params": "keyint=20:bframes=3:b-adapt=0:scenecut=0"}


def in_order(path: Path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def check_against_decoding_in_order(path: Path) -> VideoIndex:
    expected = in_order(path)
    with open_video(path, cached=False) as clip:
        assert np.array_equal(clip.read(range(clip.range.count)).frames, expected)
        for number in random.Random(0).sample(range(len(expected)), min(len(expected), 12)):
            assert np.array_equal(clip.read([number]).frames[0], expected[number]), number
        assert clip.index is not None
        return clip.index


def evenly(index: VideoIndex, rate: float = 25) -> bool:
    return np.allclose(index.timestamps_seconds, np.arange(len(index.times)) / rate, atol=2e-3)


@pytest.mark.parametrize("back", [2, 25, 50])
@pytest.mark.parametrize(("options", "at"), [(PLAIN, 40), (PLAIN, 35), (WITH_B, 40), (WITH_B, 35)])
def test_a_clock_that_is_set_back_changes_no_frame(options: dict[str, str], at: int, back: int, tmp_path: Path) -> None:
    path = split_in_time(render(tmp_path / "whole.mp4", FRAMES, options=options), tmp_path / "clip.ts", at, back)
    index = check_against_decoding_in_order(path)
    assert evenly(index)
    assert index.metadata.duration_seconds == pytest.approx(FRAMES / 25)
    assert numbers_of(decode_frames(path, lambda frames, rate: range(frames)).frames) == list(range(FRAMES))


def test_a_clock_that_comes_round_is_none_that_is_set_back(tmp_path: Path) -> None:
    # Transport streams count in 33 bits, which is 26.5 hours.
    def late(number: int, packet: Any) -> list[Any]:
        shift = round((2**33 / 90_000 - 1) / packet.time_base)
        return [packet_like(packet, packet.pts + shift, packet.dts + shift)]

    source = render(tmp_path / "whole.mp4", FRAMES, options=WITH_B)
    index = check_against_decoding_in_order(remuxed(source, tmp_path / "clip.ts", late, {"mpegts_copyts": "1"}))
    assert index.by_time
    assert evenly(index)


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("ts", "libx264", WITH_B),
        ("mpg", "mpeg1video", {"bf": "2", "g": "15"}),
        ("vob", "mpeg2video", {"bf": "2", "g": "15"}),
    ],
)
def test_recordings_joined_byte_by_byte_follow_one_another(
    suffix: str, codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    parts = [render(tmp_path / f"{frames}.{suffix}", frames, codec, options) for frames in (30, 50)]
    path = tmp_path / f"clip.{suffix}"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    index = check_against_decoding_in_order(path)
    assert (np.diff(index.timestamps_seconds) > 0).all()
    assert index.metadata.duration_seconds == pytest.approx(80 / 25)
    frames = decode_frames(path, lambda frames, rate: range(frames)).frames
    assert numbers_of(frames) == [*range(30), *range(50)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv", "ts"])
def test_reordered_frames_without_composition_times_are_shown_in_order(suffix: str, tmp_path: Path) -> None:
    source = render(tmp_path / "whole.mp4", FRAMES, options=WITH_B)
    path = remuxed(source, tmp_path / f"clip.{suffix}", shown_when_stored)
    index = check_against_decoding_in_order(path)
    assert evenly(index)
    assert numbers_of(decode_frames(path, lambda frames, rate: range(frames)).frames) == list(range(FRAMES))
    with pytest.raises(DecodeError, match="false keyframes or times"):
        decode_frames(path, lambda frames, rate: [0], backend="decord")


def test_so_are_those_of_hevc(tmp_path: Path) -> None:
    source = render(tmp_path / "whole.mp4", FRAMES, "libx265", HEVC)
    assert evenly(check_against_decoding_in_order(remuxed(source, tmp_path / "clip.mp4", shown_when_stored)))


def test_frames_that_share_a_time_are_all_there(tmp_path: Path) -> None:
    def pairs(number: int, packet: Any) -> list[Any]:
        return [packet_like(packet, number // 2 * 2 * packet.duration, (number - 5) * packet.duration)]

    source = render(tmp_path / "whole.mp4", FRAMES, options=PLAIN)
    index = check_against_decoding_in_order(remuxed(source, tmp_path / "clip.ts", pairs))
    assert np.allclose(index.timestamps_seconds[:-1], np.arange(FRAMES - 1) / 25)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("how", [{}, {"mixed": True}, {"one_packet": True}, {"mixed": True, "one_packet": True}])
def test_two_fields_are_one_frame(how: dict[str, bool], suffix: str, tmp_path: Path) -> None:
    path = write_fields(tmp_path / f"clip.{suffix}", 24, **how)
    index = check_against_decoding_in_order(path)
    assert index.metadata.frames == 24
    assert evenly(index)
    frames = decode_frames(path, lambda frames, rate: range(frames)).frames
    assert np.allclose(frames.mean((1, 2, 3)), [(luma(number) - 16) * 255 / 219 for number in range(24)], atol=1)


def test_frames_of_fields_are_found_by_seeking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_fields(tmp_path / "clip.mp4", 24)
    with open_video(path, cached=False) as clip:
        assert clip.index is not None
        assert clip.index.by_time
        monkeypatch.setattr("evlvideo.data.video.backends.pyav._from_the_start", lambda *args: pytest.fail("no seek"))
        assert clip.read([20]).frames.mean() == pytest.approx((luma(20) - 16) * 255 / 219, abs=1)


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("mp4", "libx264", {"x264-params": "tff=1:keyint=20"}),
        ("ts", "libx264", {"x264-params": "bff=1:keyint=20:bframes=3:cqm=jvt"}),
        ("mp4", "libx265", {"x265-params": "log-level=none:interlace=tff:keyint=20"}),
        ("ts", "mpeg2video", {"flags": "+ilme+ildct", "bf": "2", "g": "12"}),
        ("asf", "wmv2", {"g": "20"}),
        ("ogv", "libtheora", {"g": "20"}),
        ("h264", "libx264", {"g": "20", "bf": "3"}),
        ("hevc", "libx265", HEVC),
        ("m2v", "mpeg2video", {"g": "20", "bf": "2"}),
    ],
)
def test_interlaced_raw_and_old_kinds(suffix: str, codec: str, options: dict[str, str], tmp_path: Path) -> None:
    index = check_against_decoding_in_order(render(tmp_path / f"clip.{suffix}", FRAMES, codec, options))
    assert len(index.times) == FRAMES


def test_hidden_frames_of_vp9_in_packets_of_their_own_are_not_counted(tmp_path: Path) -> None:
    def hide(number: int, packet: Any) -> list[Any]:
        shown = packet_like(packet, packet.pts, packet.pts)
        if not packet.is_keyframe or not number:
            return [shown]
        content = bytearray(bytes(packet))
        content[0] &= ~2  # The bit that says that a keyframe is shown.
        return [packet_like(packet, packet.pts - 15, packet.pts - 15, bytes(content)), shown]

    source = render(tmp_path / "whole.webm", FRAMES, "libvpx-vp9", {"g": "20", "deadline": "realtime", "cpu-used": "8"})
    index = check_against_decoding_in_order(remuxed(source, tmp_path / "clip.mkv", hide))
    assert evenly(index)


def test_so_are_those_of_av1(tmp_path: Path) -> None:
    source = render(tmp_path / "whole.mkv", FRAMES, "libsvtav1", {"g": "60", "preset": "10"})
    path, hidden = tmp_path / "clip.mkv", 0
    with av.open(str(source)) as whole, av.open(str(path), "w") as split:
        old = whole.streams.video[0]
        stream = split.add_stream("libsvtav1", rate=25)
        stream.width, stream.height, stream.pix_fmt = old.width, old.height, "yuv420p"
        stream.codec_context.extradata = old.codec_context.extradata
        splitter = av.bitstream.BitStreamFilterContext("av1_frame_split", old)
        for packet in whole.demux(old):
            pts, key = packet.pts, packet.is_keyframe
            parts = splitter.filter(packet) if packet.size else []
            for place, part in enumerate(parts):
                hidden += part.pts is None
                new = av.Packet(bytes(part))
                new.pts = new.dts = (pts or 0) - len(parts) + 1 + place
                new.stream, new.time_base, new.is_keyframe = stream, old.time_base, key and not place
                split.mux(new)
    assert hidden > 10
    assert evenly(check_against_decoding_in_order(path))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "webm", "avi", "flv", "mpg"])
def test_a_video_of_one_frame(suffix: str, tmp_path: Path) -> None:
    codec = {"webm": "libvpx-vp9", "avi": "mpeg4", "mpg": "mpeg1video"}.get(suffix, "libx264")
    assert len(check_against_decoding_in_order(render(tmp_path / f"clip.{suffix}", 1, codec)).times) == 1


def test_a_frame_in_ten_seconds(tmp_path: Path) -> None:
    times = [10_000 * number for number in range(30)]
    index = check_against_decoding_in_order(render(tmp_path / "clip.mkv", 30, options=WITH_B, times=times))
    assert evenly(index, rate=0.1)


def test_times_below_zero(tmp_path: Path) -> None:
    def earlier(number: int, packet: Any) -> list[Any]:
        return [packet_like(packet, packet.pts - 5 * packet.duration, packet.dts - 5 * packet.duration)]

    source = render(tmp_path / "whole.mp4", FRAMES, options=WITH_B)
    for suffix, frames in (("mp4", FRAMES - 5), ("mkv", FRAMES)):
        path = remuxed(source, tmp_path / f"clip.{suffix}", earlier, {"avoid_negative_ts": "disabled"})
        assert len(check_against_decoding_in_order(path).times) == frames


def test_whole_frames_in_order_are_indexed_without_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evlvideo.data.video.index._decoded_times", lambda reader: pytest.fail("all is decoded"))
    for name, codec, options in (
        ("b.mp4", "libx264", WITH_B),
        ("b.mkv", "libx264", WITH_B),
        ("plain.mp4", "libx264", PLAIN),
        ("hevc.mp4", "libx265", HEVC),
        ("vp9.webm", "libvpx-vp9", {"g": "20", "deadline": "realtime", "cpu-used": "8"}),
    ):
        if can_encode(codec):
            with open_video(render(tmp_path / name, 30, codec, options), cached=False) as clip:
                assert clip.index is not None
                assert clip.index.by_packet

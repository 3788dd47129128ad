"""Asked is given: the number in a frame's pixels is the index that was asked for."""

import importlib.util
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kinds_of_video import FRAMES, HEVC, KINDS, OPEN_H264, OPEN_HEVC, PYRAMID, REFRESH, UNEVEN
from numbered import cut_without_encoding, numbers_of, render, without_first_packets

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.backends import pyav
from evlvideo.data.video.decode import BACKENDS, decode_frames, open_video
from evlvideo.data.video.frames import DecodedFrames
from evlvideo.data.video.packets import PacketReader


def fixed(*indices: int) -> Any:
    return lambda frames, rate: list(indices)


def installed(backend: str) -> bool:
    return backend in ("auto", "pyav") or importlib.util.find_spec(backend) is not None


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    if not installed(request.param):
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


def right(clip: DecodedFrames) -> bool:
    return numbers_of(clip.frames) == list(clip.indices)


@pytest.mark.parametrize("kind", KINDS)
def test_the_frames_asked_for_are_given(kind: str, tmp_path: Path) -> None:
    suffix, arguments = KINDS[kind]
    path = render(tmp_path / f"clip.{suffix}", FRAMES, **arguments)
    draw = random.Random(kind)
    assert right(decode_frames(path, lambda frames, rate: range(frames)))
    for count in (1, 1, 2, 4, 8, 16):
        indices = [draw.randrange(FRAMES) for _ in range(count)]
        clip = decode_frames(path, fixed(*indices))
        assert numbers_of(clip.frames) == indices
        assert clip.metadata.frames == FRAMES


@pytest.mark.parametrize("kind", ["closed groups", "deep pyramid of B-frames", "uneven times", "vp9", "ten bits"])
def test_every_backend_gives_them(kind: str, backend: str, tmp_path: Path) -> None:
    suffix, arguments = KINDS[kind]
    path = render(tmp_path / f"clip.{suffix}", FRAMES, **arguments)
    for indices in ([0, 29, 30, 31, 89], [45], [88, 3, 3, 60]):
        assert numbers_of(decode_frames(path, fixed(*indices), backend=backend).frames) == indices


def test_hevc_as_x265_makes_it_is_right_or_refused(backend: str, tmp_path: Path) -> None:
    # Its groups of 250 frames are open; decord gave frame 253 for 249.
    path = render(tmp_path / "clip.mp4", 300, "libx265", HEVC)
    asked = fixed(*range(240, 262), 290)
    if backend == "decord":
        with pytest.raises(DecodeError, match="decord gives wrong frames or none; use the backend pyav"):
            decode_frames(path, asked, backend=backend)
    else:
        assert right(decode_frames(path, asked, backend=backend))


@pytest.mark.parametrize("kind", ["open groups", "no keyframe but the first", "mpeg2", "no times"])
def test_decord_is_refused_what_it_gets_wrong(kind: str, tmp_path: Path) -> None:
    if not installed("decord"):
        pytest.skip("decord is not installed")
    suffix, arguments = KINDS[kind]
    path = render(tmp_path / f"clip.{suffix}", FRAMES, **arguments)
    with pytest.raises(DecodeError, match="wrong frames or none"):
        decode_frames(path, fixed(0, 40), backend="decord")


def test_a_false_keyframe_is_no_place_to_start(tmp_path: Path) -> None:
    path = render(tmp_path / "clip.mp4", FRAMES, options=REFRESH)
    with open_video(path) as clip:
        assert clip.index is not None
        assert clip.index.false_keyframes
    if installed("torchcodec"):
        with pytest.raises(DecodeError, match="false keyframes"):
            decode_frames(path, fixed(0), backend="torchcodec")


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
@pytest.mark.parametrize("options", [{"g": "30", "sc_threshold": "0"}, OPEN_H264])
def test_true_keyframes_are_found(suffix: str, options: dict[str, str], tmp_path: Path) -> None:
    with open_video(render(tmp_path / f"clip.{suffix}", FRAMES, options=options)) as clip:
        assert clip.index is not None
        assert not clip.index.false_keyframes
        assert len(clip.index.keyframes) >= 3


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_rotation_is_applied(rotation: int, backend: str, tmp_path: Path) -> None:
    path = render(tmp_path / "clip.mp4", 40, rotation=rotation)
    clip = decode_frames(path, fixed(0, 17, 39), backend=backend)
    assert right(clip)
    assert clip.frames.shape[1:] == (64, 96, 3)
    assert (clip.metadata.width, clip.metadata.height, clip.metadata.rotation) == (96, 64, rotation)


def test_a_rotation_is_applied_before_scaling(tmp_path: Path) -> None:
    path = render(tmp_path / "clip.mp4", 12, rotation=90)
    assert right(decode_frames(path, fixed(0, 5, 11), 48))
    clip = decode_frames(path, fixed(5, 11), 32, keep_aspect=True)
    assert right(clip)
    assert clip.frames.shape == (2, 32, 48, 3)


def test_frames_that_an_edit_list_hides_are_not_counted(tmp_path: Path) -> None:
    # As where a clip was cut out of a longer video without encoding it again; decord repeats the last frame for these.
    whole = render(tmp_path / "whole.mp4", 60, options={"g": "12"})
    path = cut_without_encoding(whole, tmp_path / "cut.mp4", hidden=20, rate=25)
    clip = decode_frames(path, fixed(0, 1, 13, 39))
    assert numbers_of(clip.frames) == [20, 21, 33, 59]
    assert clip.metadata.frames == 40


@pytest.mark.parametrize(("suffix", "packets"), [("mp4", 1), ("mp4", 24), ("mp4", 30), ("mkv", 24), ("mkv", 30)])
def test_frames_whose_beginning_was_cut_away_are_not_counted(suffix: str, packets: int, tmp_path: Path) -> None:
    whole = render(tmp_path / f"whole.{suffix}", FRAMES, "libx265", OPEN_HEVC)
    path = without_first_packets(whole, tmp_path / f"cut.{suffix}", packets)
    numbers = numbers_of(decode_frames(path, lambda frames, rate: range(frames)).frames)
    assert numbers == list(range(numbers[0], FRAMES))
    assert numbers_of(decode_frames(path, lambda frames, rate: [frames // 2]).frames) == [numbers[len(numbers) // 2]]


@pytest.mark.parametrize("options", [PYRAMID, OPEN_H264, REFRESH])
def test_pixels_are_those_of_decoding_everything(options: dict[str, str], tmp_path: Path) -> None:
    # Frames that are passed over are not decoded where no other needs them, and what is no keyframe is not trusted.
    path = render(tmp_path / "clip.mp4", FRAMES, options=options)
    with open_video(path) as clip, PacketReader(path) as reader:
        few = clip.read([7, 38, 39, 41, 77]).frames
        every = pyav.decode(reader, clip.index, range(FRAMES), *few.shape[1:3])  # type: ignore[arg-type]
    assert np.array_equal(few, every[[7, 38, 39, 41, 77]])


def test_only_what_is_needed_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = render(tmp_path / "clip.mp4", FRAMES, options={"g": "10", "bf": "0", "sc_threshold": "0"})
    read: list[int] = []
    packets = PacketReader.packets

    def counting(self: PacketReader) -> Any:
        for packet in packets(self):
            read.append(packet.size)
            yield packet

    with open_video(path) as clip:
        monkeypatch.setattr(PacketReader, "packets", counting)
        assert right(clip.read([1, 85]))
    assert len(read) == 2 + 6


@pytest.mark.parametrize("lost", ["seek", "land late"])
def test_a_container_that_cannot_be_searched_is_read_from_its_start(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = render(tmp_path / "clip.mkv", FRAMES, options={"g": "30"})
    with open_video(path) as clip:
        if lost == "seek":
            monkeypatch.setattr(PacketReader, "start_at", lambda *arguments: False)
        else:
            restart = PacketReader.restart
            late = clip.index.keyframes[-1]  # type: ignore[union-attr]
            monkeypatch.setattr(PacketReader, "start_at", lambda reader, keyframe: restart(reader, late) is None)
        assert right(clip.read([35, 59, 62]))


def test_times_are_when_frames_are_shown(tmp_path: Path) -> None:
    path = render(tmp_path / "clip.mp4", FRAMES, times=UNEVEN)
    clip = decode_frames(path, fixed(0, 31, 60))
    assert np.allclose(clip.timestamps_seconds, np.array(UNEVEN)[[0, 31, 60]] / 1000, atol=1e-4)
    assert clip.metadata.rate == pytest.approx(FRAMES / (UNEVEN[-1] / 1000), rel=0.02)


def test_frames_are_chosen_between_two_times(tmp_path: Path) -> None:
    path = render(tmp_path / "clip.mp4", 75, options={"g": "20"})
    seen: list[int] = []
    clip = decode_frames(
        path, lambda frames, rate: [seen.append(frames) or 0, frames - 1], start_seconds=1.0, end_seconds=2.0
    )
    # Half-open: at 25 a second, the second has frames 25 to 49.
    assert seen == [25]
    assert clip.indices == (25, 49)
    assert right(clip)


def test_the_end_of_a_range_may_lie_beyond_the_file(tmp_path: Path) -> None:
    path = render(tmp_path / "clip.mp4", 30)
    assert decode_frames(path, lambda frames, rate: [0, frames - 1], start_seconds=0.5, end_seconds=9).indices == (
        13,
        29,
    )


@pytest.mark.parametrize("times", [(5.0, None), (0.5, 0.5), (None, 0.0), (1.2, 1.3), (1.25, None)])
def test_a_range_without_frames_is_refused(times: tuple[float | None, float | None], tmp_path: Path) -> None:
    path = render(tmp_path / "clip.mp4", 30)
    with pytest.raises(DecodeError, match=r"clip\.mp4 shows no frame from .* lasts from 0\.00 s to 1\.20 s"):
        decode_frames(path, fixed(0), start_seconds=times[0], end_seconds=times[1])


@pytest.mark.parametrize(
    ("times", "expected"),
    [((0.41, 0.43), 10), ((0.39, 0.4), 9), ((1.17, None), 29), ((1.17, 9.0), 29), ((0.001, 0.01), 0)],
)
def test_a_part_between_two_frames_is_the_one_on_the_screen(
    times: tuple[float, float | None], expected: int, tmp_path: Path
) -> None:
    path = render(tmp_path / "clip.mp4", 30)
    clip = decode_frames(path, lambda frames, rate: range(frames), start_seconds=times[0], end_seconds=times[1])
    assert numbers_of(clip.frames) == [expected]


def test_a_part_of_slides_is_the_slide_that_is_shown(tmp_path: Path) -> None:
    path = render(tmp_path / "clip.mp4", 12, times=[5000 * number for number in range(12)])
    clip = decode_frames(path, lambda frames, rate: range(frames), start_seconds=6, end_seconds=9)
    assert numbers_of(clip.frames) == [1]
    with pytest.raises(DecodeError, match=r"shows no frame from 100 s to 110 s; it lasts from 0\.00 s to 55"):
        decode_frames(path, fixed(0), start_seconds=100, end_seconds=110)


def test_a_stream_that_starts_late_keeps_its_times(tmp_path: Path) -> None:
    path = render(tmp_path / "clip.mkv", 20, times=[500 + 40 * number for number in range(20)])
    seconds = decode_frames(path, lambda frames, rate: range(frames)).timestamps_seconds
    assert np.allclose(np.diff(seconds), 0.04, atol=2e-3)

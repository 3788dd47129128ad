import importlib.util
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from tiny_data import FRAMES, HEIGHT, SHARED_DATA, WIDTH, index_of, render

from evlvideo.data import decode
from evlvideo.data.decode import DecodeError, decode_frames
from evlvideo.data.sampling import uniform

HAS_DECORD = importlib.util.find_spec("decord") is not None
needs_decord = pytest.mark.skipif(not HAS_DECORD, reason="decord has no wheel for this platform")


def fixed(*indices: int) -> Callable[[int], list[int]]:
    return lambda frames: list(indices)


@pytest.fixture(params=[pytest.param("decord", marks=needs_decord), "pyav"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Decode with decord alone, then with PyAV alone."""
    name: str = request.param
    if name == "pyav":
        monkeypatch.setattr(decode, "_has_decord", lambda: False)
    else:
        monkeypatch.setattr(decode, "_with_pyav", lambda *arguments: pytest.fail("decord should have decoded this"))
    return name


def test_the_asked_frames_come_back_in_the_asked_order(clip: Path, backend: str) -> None:
    frames = decode_frames(clip, fixed(17, 0, 23, 5, 5), 32)
    assert [index_of(frame) for frame in frames] == [17, 0, 23, 5, 5]


def test_frames_are_resized_straight_to_a_square(clip: Path, backend: str) -> None:
    frames = decode_frames(clip, fixed(0, 3), 32)
    assert frames.shape == (2, 32, 32, 3)
    assert frames.dtype == np.uint8
    # The whole width is there: a crop would have kept less of the black half.
    assert frames[1, :, :13].min() > 30
    assert frames[1, :, 19:].max() < 20


def test_without_a_size_frames_keep_the_files(clip: Path, backend: str) -> None:
    assert decode_frames(clip, fixed(0), None).shape == (1, HEIGHT, WIDTH, 3)


def test_indices_are_chosen_from_the_number_of_frames(clip: Path, backend: str) -> None:
    seen: list[int] = []

    def choose(frames: int) -> list[int]:
        seen.append(frames)
        return uniform(frames, 4)

    decode_frames(clip, choose, 32)
    assert seen == [FRAMES]


@needs_decord
def test_both_decoders_give_the_same_pixels(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = decode_frames(clip, fixed(1, 12, 23), 48).astype(int)
    monkeypatch.setattr(decode, "_has_decord", lambda: False)
    fallback = decode_frames(clip, fixed(1, 12, 23), 48)
    assert np.abs(ours - fallback).mean() < 1
    assert np.abs(ours - fallback).max() <= 8


@needs_decord
def test_pyav_serves_where_decord_fails(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import decord

    def failing(*arguments: object, **named: object) -> None:
        raise decord.DECORDError("[00:00:00] cannot")

    monkeypatch.setattr(decord, "VideoReader", failing)
    assert [index_of(frame) for frame in decode_frames(clip, fixed(7, 20), 32)] == [7, 20]


@pytest.mark.parametrize("codec", ["mpeg4", "libx265", "libvpx-vp9", "libsvtav1"])
def test_other_codecs_give_the_right_frames(tmp_path: Path, codec: str) -> None:
    if not _can_encode(codec):
        pytest.skip(f"PyAV here has no encoder {codec}")
    path = render(tmp_path / "clip.mp4", codec=codec)
    assert [index_of(frame) for frame in decode_frames(path, fixed(0, 11, 23), 32)] == [0, 11, 23]


@needs_decord
def test_hevc_is_left_to_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Frames after a keyframe of an open group of pictures, which decord confuses.
    if not _can_encode("libx265"):
        pytest.skip("PyAV here has no encoder libx265")
    path = render(tmp_path / "clip.mp4", codec="libx265", options={"x265-params": "keyint=8:min-keyint=8:open-gop=1"})
    monkeypatch.setattr(decode, "_with_decord", lambda *arguments: pytest.fail("decord is wrong on HEVC"))
    assert [index_of(frame) for frame in decode_frames(path, fixed(*range(FRAMES)), 32)] == list(range(FRAMES))


def test_frames_that_an_edit_list_hides_are_not_counted(clip: Path, tmp_path: Path) -> None:
    # As where a clip was cut out of a longer video without encoding it again; decord repeats the last frame for these.
    path = _cut_without_encoding(clip, tmp_path / "cut.mp4", hidden=8)
    frames = decode_frames(path, lambda count: uniform(count, 4), 32)
    assert [index_of(frame) for frame in frames] == [8, 12, 16, 20]


def test_packets_that_show_nothing_are_not_counted_as_frames(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_probe", lambda path: ("vp8", FRAMES + 3))
    frames = decode_frames(clip, lambda count: [count - 1], 32)
    assert index_of(frames[0]) == FRAMES - 1


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match=r"none\.mp4 does not exist"):
        decode_frames(tmp_path / "none.mp4", fixed(0), 32)


def test_a_directory_is_not_a_video(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="is not a file"):
        decode_frames(tmp_path, fixed(0), 32)


def test_an_empty_file_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.touch()
    with pytest.raises(DecodeError, match="is an empty file"):
        decode_frames(path, fixed(0), 32)


def test_text_is_not_a_video(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text("404 Not Found\n" * 50)
    with pytest.raises(DecodeError, match=r"clip\.mp4 cannot be decoded: Invalid data"):
        decode_frames(path, fixed(0), 32)
    assert capfd.readouterr() == ("", "")


def test_sound_alone_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(DecodeError, match="no video stream"):
        decode_frames(path, fixed(0), 32)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_cut_short_is_refused(clip: Path, tmp_path: Path, share: float) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * share)])
    with pytest.raises(DecodeError, match=r"cannot be decoded: .* Is it a video, and whole\?"):
        decode_frames(path, fixed(0), 32)


def test_a_colon_in_a_name_is_no_protocol(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("http:clip.mp4").write_bytes(clip.read_bytes())
    assert decode_frames(Path("http:clip.mp4"), fixed(2), 32).shape == (1, 32, 32, 3)


def _cut_without_encoding(source: Path, path: Path, hidden: int) -> Path:
    options = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    with av.open(str(source)) as whole, av.open(str(path), "w", options=options) as cut:
        stream = cut.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.size:
                shift = round(hidden / 12 / packet.time_base)
                packet.pts -= shift
                packet.dts -= shift
                packet.stream = stream
                cut.mux(packet)
    return path


def _can_encode(codec: str) -> bool:
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        return False
    return True


def _real_clips() -> list[Path]:
    return sorted((SHARED_DATA / "videos").glob("*")) if (SHARED_DATA / "videos").is_dir() else []


@pytest.mark.skipif(not _real_clips(), reason="the optional real clips are not on this machine")
def test_both_decoders_agree_on_real_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in _real_clips():
        if "corrupted" in path.name:
            with pytest.raises(DecodeError, match="cannot be decoded"):
                decode_frames(path, lambda frames: uniform(frames, 4), 64)
            continue
        with monkeypatch.context() as patched:
            frames = decode_frames(path, lambda frames: uniform(frames, 4), 64).astype(int)
            patched.setattr(decode, "_has_decord", lambda: False)
            fallback = decode_frames(path, lambda frames: uniform(frames, 4), 64)
        assert frames.shape == (4, 64, 64, 3)
        assert np.abs(frames - fallback).mean() < 1, path.name

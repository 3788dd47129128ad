import importlib.util
import os
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numbered import number_of, render
from PIL import Image
from tiny_data import FRAMES, HEIGHT, SHARED_DATA, WIDTH, index_of

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video import decode
from evlvideo.data.video.backends import pyav
from evlvideo.data.video.decode import check_video, decode_frames
from evlvideo.data.video.frames import DecodedFrames, VideoMetadata
from evlvideo.data.video.packets import PacketReader
from evlvideo.errors import UserError

HAS_DECORD = importlib.util.find_spec("decord") is not None
needs_decord = pytest.mark.skipif(not HAS_DECORD, reason="decord has no wheel for this platform")


def fixed(*indices: int) -> Callable[[int, float], list[int]]:
    return lambda frames, rate: list(indices)


@pytest.fixture(params=[pytest.param("decord", marks=needs_decord), "pyav", "auto"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_the_asked_frames_come_back_in_the_asked_order(clip: Path, backend: str) -> None:
    decoded = decode_frames(clip, fixed(17, 0, 23, 5, 5), 32, backend=backend)
    assert [index_of(frame) for frame in decoded.frames] == [17, 0, 23, 5, 5]
    assert decoded.indices == (17, 0, 23, 5, 5)
    assert np.allclose(decoded.timestamps_seconds, np.array(decoded.indices) / 12)


def test_frames_are_resized_straight_to_a_square(clip: Path, backend: str) -> None:
    frames = decode_frames(clip, fixed(0, 3), 32, backend=backend).frames
    assert frames.shape == (2, 32, 32, 3)
    assert frames.dtype == np.uint8
    # The whole width is there: a crop would have kept less of the black half.
    assert frames[1, :, :13].min() > 30
    assert frames[1, :, 19:].max() < 20


def test_without_a_size_frames_keep_the_files(clip: Path, backend: str) -> None:
    assert decode_frames(clip, fixed(0), backend=backend).frames.shape == (1, HEIGHT, WIDTH, 3)


def test_the_shorter_side_is_scaled_where_the_aspect_is_kept(clip: Path, backend: str) -> None:
    assert decode_frames(clip, fixed(0), 32, keep_aspect=True, backend=backend).frames.shape == (1, 32, 40, 3)


def test_the_file_is_described(clip: Path, backend: str) -> None:
    decoded = decode_frames(clip, fixed(0), 32, backend=backend)
    assert decoded.metadata == VideoMetadata(
        frames=FRAMES, rate=pytest.approx(12), width=WIDTH, height=HEIGHT, codec="h264", rotation=0,
        duration_seconds=pytest.approx(2),
    )  # fmt: skip
    assert decoded.backend == ("pyav" if backend == "auto" else backend)


def test_indices_are_chosen_from_the_number_of_frames_and_their_times(clip: Path, backend: str) -> None:
    seen: list[tuple[int, np.ndarray]] = []

    def choose(frames: int, seconds: np.ndarray) -> list[int]:
        seen.append((frames, seconds))
        return [0]

    decode_frames(clip, choose, 32, backend=backend)
    ((frames, seconds),) = seen
    assert frames == FRAMES
    assert np.allclose(seconds, np.arange(FRAMES) / 12)


@pytest.mark.parametrize("indices", [(), (FRAMES,), (-1,)])
def test_an_index_outside_the_clip_is_the_callers_mistake(clip: Path, indices: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"has {FRAMES} frames"):
        decode_frames(clip, fixed(*indices), 32)


@needs_decord
def test_both_decoders_give_the_same_pixels(clip: Path) -> None:
    ours = decode_frames(clip, fixed(1, 12, 23), 64, backend="pyav").frames.astype(int)
    other = decode_frames(clip, fixed(1, 12, 23), 64, backend="decord").frames
    assert np.abs(ours - other).mean() < 1
    assert np.abs(ours - other).max() <= 8


def test_an_unknown_backend_is_refused(clip: Path) -> None:
    with pytest.raises(UserError, match="'opencv'; allowed: auto, pyav, decord, torchcodec"):
        decode_frames(clip, fixed(0), 32, backend="opencv")


def test_a_backend_that_is_not_installed_is_refused(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*arguments: object) -> Any:
        raise ImportError("No module named 'torchcodec'")

    monkeypatch.setitem(decode._OTHERS, "torchcodec", absent)
    with pytest.raises(UserError, match="'torchcodec' is not installed here"):
        decode_frames(clip, fixed(0), 32, backend="torchcodec")


def failing(error: Exception) -> Any:
    def fail(*arguments: object) -> Any:
        raise error

    return fail


@needs_decord
def test_another_serves_where_pyav_fails(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyav, "decode", failing(av.error.DecoderNotFoundError(1, "no decoder")))
    decoded = decode_frames(clip, fixed(7, 20), 32)
    assert [index_of(frame) for frame in decoded.frames] == [7, 20]
    assert decoded.backend in ("decord", "torchcodec")


def test_no_other_is_asked_to_decode_broken_data(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyav, "decode", failing(av.error.InvalidDataError(1, "Invalid data")))
    monkeypatch.setattr(decode, "_other", lambda *arguments: pytest.fail("this would paint over a hole"))
    with pytest.raises(DecodeError, match="Invalid data"):
        decode_frames(clip, fixed(7, 20), 32)


def test_where_all_fail_the_first_is_told(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyav, "decode", failing(RuntimeError("no scaler")))
    for name in ("decord", "torchcodec"):
        monkeypatch.setitem(decode._OTHERS, name, failing(DecodeError("neither")))
    with pytest.raises(DecodeError, match=r"clip\.mp4 cannot be decoded: no scaler"):
        decode_frames(clip, fixed(7), 32)


def _numbers(path: Path, results: Any) -> None:
    results.put([index_of(frame) for frame in decode_frames(path, fixed(3, 19), 32).frames])


def test_a_process_forked_after_decoding_decodes(clip: Path) -> None:
    # decord's readers hang after a fork; none is kept.
    decode_frames(clip, fixed(0, 20), 32)
    context = get_context("fork")
    results = context.Queue()
    process = context.Process(target=_numbers, args=(clip, results))
    process.start()
    assert results.get(timeout=30) == [3, 19]
    process.join(30)
    assert process.exitcode == 0


def test_nothing_stays_open(clip: Path) -> None:
    handles = Path("/proc/self/fd")
    if not handles.is_dir():
        pytest.skip("open files are counted in /proc")
    decode_frames(clip, fixed(0, 20), 32)
    before = len(list(handles.iterdir()))
    for _ in range(5):
        decode_frames(clip, fixed(0, 20), 32)
    assert len(list(handles.iterdir())) == before


def test_frames_and_indices_must_belong_together() -> None:
    metadata = VideoMetadata(1, 1.0, 4, 4, "h264", 0, 1.0)
    with pytest.raises(ValueError, match="do not belong together"):
        DecodedFrames(np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2), (0,), metadata, "pyav")
    with pytest.raises(ValueError, match="uint8"):
        DecodedFrames(np.zeros((1, 4, 4, 3), np.float32), np.zeros(1), (0,), metadata, "pyav")


def test_a_clip_shows_shapes_and_not_pixels(clip: Path) -> None:
    assert repr(decode_frames(clip, fixed(0, 12), 32)).startswith(
        "DecodedFrames(frames=uint8 (2, 32, 32, 3), indices=(0, 12), timestamps_seconds=[0.0, 1.0], metadata="
    )


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_an_image_is_a_video_of_one_frame(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture.{suffix}"
    Image.new("RGB", (60, 40), (200, 100, 50)).save(path)
    decoded = decode_frames(path, lambda frames, rate: [0] * 4 if frames == 1 else [], 20, keep_aspect=True)
    assert decoded.frames.shape == (4, 20, 30, 3)
    assert np.abs(decoded.frames.astype(int) - (200, 100, 50)).max() < 8
    assert (decoded.metadata.frames, decoded.metadata.width, decoded.metadata.height) == (1, 60, 40)


def test_an_image_is_turned_upright(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(path, exif=exif)
    assert decode_frames(path, fixed(0)).frames.shape == (1, 60, 40, 3)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(b"\xff\xd8 no picture")
    with pytest.raises(DecodeError, match=r"picture\.jpg cannot be decoded: .* Is it an image, and whole\?"):
        decode_frames(path, fixed(0))


def test_a_whole_clip_passes_its_check(clip: Path) -> None:
    assert check_video(clip) == FRAMES
    assert check_video(clip, 3) == FRAMES


def test_damage_between_the_looked_at_frames_is_found_by_a_whole_check(tmp_path: Path) -> None:
    path = render(tmp_path / "clip.mp4", 60, options={"g": "20", "bf": "0"})
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as file:
        packet = [packet for packet in file.demux(video=0) if packet.size][30]
        content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(content)
    assert number_of(decode_frames(path, fixed(5)).frames[0]) == 5
    with pytest.raises(DecodeError, match=r"clip\.mp4"):
        check_video(path)


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
    assert decode_frames(Path("http:clip.mp4"), fixed(2), 32).frames.shape == (1, 32, 32, 3)


@pytest.mark.parametrize("within_packet", [0, 7])
def test_a_file_cut_short_behind_its_index_is_refused(tmp_path: Path, within_packet: int) -> None:
    path = render(tmp_path / "clip.mp4", 60, options={"g": "20"}, container={"movflags": "faststart"})
    with av.open(str(path)) as file:
        end_of_packet = sorted(entry.pos for entry in file.streams.video[0].index_entries)[35]
    path.write_bytes(path.read_bytes()[: end_of_packet + within_packet])
    with pytest.raises(DecodeError, match=r"clip\.mp4"):
        check_video(path)


def test_a_file_without_an_index_that_was_cut_short_gives_what_is_there(tmp_path: Path) -> None:
    path = render(tmp_path / "clip.mkv", 60, options={"g": "20"})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    decoded = decode_frames(path, lambda frames, rate: [0, frames - 1])
    assert [number_of(frame) for frame in decoded.frames] == [0, decoded.metadata.frames - 1]
    assert 20 < decoded.metadata.frames < 60


def test_a_stream_that_begins_in_the_middle_is_refused(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def demux(*args: object) -> Iterator[object]:
        yield [][0]  # what PyAV does at a packet of a stream that it has no place for

    with PacketReader(clip) as reader:
        monkeypatch.setattr(reader, "_demuxed", demux())
        with pytest.raises(DecodeError, match="a stream begins in the middle"):
            list(reader.packets())


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    os.mkfifo(path)
    with pytest.raises(DecodeError, match="is not a file"):
        decode_frames(path, fixed(0), 32)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_without_permission_is_named(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(clip.read_bytes())
    path.chmod(0)
    with pytest.raises(DecodeError, match=r"clip\.mp4 cannot be read: Permission denied"):
        decode_frames(path, fixed(0), 32)


def test_a_playlist_reaches_no_network(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(DecodeError, match=r"clip\.mp4"):
        decode_frames(path, fixed(0), 32)


def _real_clips() -> list[Path]:
    return sorted((SHARED_DATA / "videos").glob("*")) if (SHARED_DATA / "videos").is_dir() else []


@needs_decord
@pytest.mark.skipif(not _real_clips(), reason="the optional real clips are not on this machine")
def test_decoders_agree_on_real_clips() -> None:
    for path in _real_clips():
        if "corrupted" in path.name:
            with pytest.raises(DecodeError, match="cannot be decoded"):
                decode_frames(path, lambda frames, rate: [0, frames * 3 // 4], 64)
            continue
        ours = decode_frames(path, lambda frames, rate: [frames * place // 4 for place in range(4)], 64)
        assert ours.frames.shape == (4, 64, 64, 3)
        if ours.metadata.codec not in ("hevc", "av1"):
            other = decode_frames(path, fixed(*ours.indices), 64, backend="decord").frames
            assert np.abs(ours.frames.astype(int) - other).mean() < 1, path.name

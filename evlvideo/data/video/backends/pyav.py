"""PyAV: decodes no more than the frames asked for need, and knows each by the time at which it is shown."""

from collections.abc import Iterator, Sequence

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.index import VideoIndex, rotation_of
from evlvideo.data.video.packets import PacketReader

# As many threads as processors is PyAV's choice since 17, in each of a data loader's processes; it had one before.
_ONE_THREAD = {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}


def decode(reader: PacketReader, index: VideoIndex, indices: Sequence[int], height: int, width: int) -> np.ndarray:
    """Decode frames.

    Args:
        reader: the file, anywhere.
        index: of the file.
        indices: ascending, without repetitions.
        height: of the result.
        width: of the result.

    Returns:
        RGB values, uint8 of shape (indices, height, width, 3), scaled bilinearly, upright.

    Raises:
        DecodeError: the file lists a frame that it does not give.
        av.FFmpegError: the file is broken before a wanted frame, since the last keyframe.
    """
    frames: dict[int, np.ndarray] = {}
    paint = _Painter(height, width)
    wanted = {int(index.times[place]): place for place in indices}
    if index.by_time:
        found = _by_seeking(reader, index, list(wanted))
        frames = {wanted[time]: paint(frame) for time, frame in found}
    if len(frames) < len(wanted):
        # Not every container finds its keyframes, and not every marked keyframe is one.
        frames = {place: paint(frame) for place, frame in _from_the_start(reader, index, wanted)}
    _refuse_missing(reader, index, [place for place in indices if place not in frames])
    return np.stack([frames[place] for place in indices])


def decode_all(reader: PacketReader, index: VideoIndex) -> None:
    """Decode every frame of a file, and keep none.

    Raises:
        DecodeError: the file lists a frame that it does not give.
        av.FFmpegError: the file is broken.
    """
    wanted = {int(time): place for place, time in enumerate(index.times)}
    given = {place for place, _ in _from_the_start(reader, index, wanted)}
    _refuse_missing(reader, index, [place for place in wanted.values() if place not in given])


def _by_seeking(reader: PacketReader, index: VideoIndex, times: list[int]) -> Iterator[tuple[int, VideoFrame]]:
    """Decode from the keyframe before each group of wanted frames; give up where seeking goes wrong."""
    shown = np.array([keyframe.pts for keyframe in index.keyframes], np.int64)
    groups: dict[int, set[int]] = {}
    for time in times:
        # Frames shown before a keyframe may be stored after it and need the group before: never start at a later one.
        groups.setdefault(int(np.searchsorted(shown, time, side="right")) - 1, set()).add(time)
    for number, group in groups.items():
        if number < 1:
            reader.restart(index.first)
        elif not reader.start_at(index.keyframes[number]):
            return
        yield from _group(reader, group)


def _group(reader: PacketReader, wanted: set[int]) -> Iterator[tuple[int, VideoFrame]]:
    """Decode from here until all wanted packets are in the decoder, then empty it."""
    context = reader.stream.codec_context
    # H.264 marks the frames that no other is coded from, so those that are not wanted need not be decoded.
    skips = context.codec.canonical_name == "h264"
    waiting = set(wanted)
    for packet in reader.packets():
        if skips:
            context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        yield from _those(wanted, reader.stream.decode(packet))
        waiting.discard(packet.pts)
        if not waiting and packet.size:
            yield from _those(wanted, reader.stream.decode(None))
            break
    context.skip_frame = "DEFAULT"


def _from_the_start(
    reader: PacketReader, index: VideoIndex, wanted: dict[int, int]
) -> Iterator[tuple[int, VideoFrame]]:
    """Decode from the first packet to the last wanted frame, skipping nothing."""
    reader.restart(index.first)
    last = max(wanted)
    for count, frame in enumerate(reader.frames()):
        time = frame.pts if index.by_time else count
        if time in wanted:
            yield wanted[time], frame
        if time is not None and time >= last:
            return


def _refuse_missing(reader: PacketReader, index: VideoIndex, missing: list[int]) -> None:
    if missing:
        raise DecodeError(
            f"{reader.media} cannot be decoded: frame {missing[0]} of {len(index.times)}, at "
            f"{index.timestamps_seconds[missing[0]]:.2f} s, is listed but not there. Is the file whole?"
        )


def _those(wanted: set[int], frames: list[VideoFrame]) -> Iterator[tuple[int, VideoFrame]]:
    for frame in frames:
        if frame.pts in wanted:
            yield frame.pts, frame


class _Painter:
    """Frames to upright pixels. One scaler serves a clip, since to make one costs as much as to scale a frame."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """Pixels, uint8 of shape (height, width, 3)."""
        rotation = rotation_of(frame)
        height, width = (self.width, self.height) if rotation % 180 else (self.height, self.width)
        scaled = self.scaler.reformat(frame, width, height, "rgb24", interpolation="BILINEAR", **_ONE_THREAD)
        return np.rot90(scaled.to_ndarray(), rotation // 90)

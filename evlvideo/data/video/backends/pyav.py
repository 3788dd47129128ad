"""Decode with PyAV: decodes only what the wanted frames need, and identifies frames by presentation time."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.pixels import on_white
from evlvideo.data.video.index import VideoIndex, rotation_of
from evlvideo.data.video.packets import PacketReader


def decode(reader: PacketReader, index: VideoIndex, indices: Sequence[int], height: int, width: int) -> np.ndarray:
    """Decode frames.

    Args:
        reader: the file, at any position.
        index: its index.
        indices: ascending, without repetitions.
        height: height of the result in pixels.
        width: width of the result in pixels.

    Returns:
        RGB values, uint8 of shape (indices, height, width, 3), scaled bilinearly, upright.

    Raises:
        DecodeError: a frame that the file lists cannot be decoded.
        av.FFmpegError: the file is broken between a wanted frame and the keyframe before it.
    """
    frames: dict[int, np.ndarray] = {}
    paint = _Painter(height, width)
    wanted = {int(index.times[place]): place for place in indices}
    if index.by_time:
        found = _by_seeking(reader, index, list(wanted))
        frames = {wanted[time]: paint(frame) for time, frame in found}
    if len(frames) < len(wanted):
        # Some containers do not find their keyframes, and some marked keyframes are none.
        frames = {place: paint(frame) for place, frame in _from_the_start(reader, index, wanted)}
    _refuse_missing(reader, index, [place for place in indices if place not in frames])
    return np.stack([frames[place] for place in indices])


def _by_seeking(reader: PacketReader, index: VideoIndex, times: list[int]) -> Iterator[tuple[int, VideoFrame]]:
    """Decode from the keyframe before each group of wanted frames; stop if seeking fails."""
    shown = np.array([keyframe.pts for keyframe in index.keyframes], np.int64)
    groups: dict[int, set[int]] = {}
    for time in times:
        # Never start at a later keyframe: frames shown before it may be stored after it, and need the group before.
        groups.setdefault(int(np.searchsorted(shown, time, side="right")) - 1, set()).add(time)
    for number, group in groups.items():
        if number < 1:
            reader.restart(index.first)
        elif not reader.start_at(index.keyframes[number]):
            return
        yield from _group(reader, group) if index.by_packet else _until(reader, group)


def _until(reader: PacketReader, wanted: set[int]) -> Iterator[tuple[int, VideoFrame]]:
    """Decode from here until all wanted frames are given."""
    waiting = set(wanted)
    for time, frame in _those(wanted, reader.frames()):
        yield time, frame
        waiting.discard(time)
        if not waiting:
            return


def _group(reader: PacketReader, wanted: set[int]) -> Iterator[tuple[int, VideoFrame]]:
    """Decode from here until all wanted packets are in the decoder, then flush it."""
    context = reader.stream.codec_context
    # H.264 marks frames that no other depends on; skip those that are not wanted.
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
    reader.restart(index.first if index.by_time else None)
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
            f"{index.timestamps_seconds[missing[0]]:.2f} s, is listed but missing. Is the file whole?"
        )


def _those(wanted: set[int], frames: Iterable[VideoFrame]) -> Iterator[tuple[int, VideoFrame]]:
    for frame in frames:
        if frame.pts in wanted:
            yield frame.pts, frame


class _Painter:
    """Scales frames, and turns them upright. Reuses one scaler, since making one costs as much as scaling a frame."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.scaler = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """Return RGB values, uint8 of shape (height, width, 3)."""
        rotation = rotation_of(frame)
        height, width = (self.width, self.height) if rotation % 180 else (self.height, self.width)
        frame = _opaque(frame)
        # By default, PyAV scales with one thread per processor, in each worker of a data loader.
        scaled = self.scaler.reformat(frame, width, height, "rgb24", interpolation="BILINEAR", threads=1)
        return np.rot90(scaled.to_ndarray(), rotation // 90)


def _opaque(frame: VideoFrame) -> VideoFrame:
    """Put a frame with transparency on white before it is scaled, so that colors that nobody sees have no effect."""
    if not any(component.is_alpha for component in frame.format.components):
        return frame
    rgba = frame.reformat(format="rgba", threads=1).to_ndarray()
    if rgba[..., 3].min() == 255:
        return frame
    opaque = VideoFrame.from_ndarray(on_white(rgba), format="rgb24")
    opaque.pts, opaque.time_base = frame.pts, frame.time_base
    return opaque

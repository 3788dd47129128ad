"""Index the frames of a video file and their times. Defines "frame i" for all decoders.

Frame i is the i-th in presentation order. If each packet shows one frame, and the times of packets agree with their
order, the index is made from packets without decoding. Otherwise, all frames are decoded once. If their times rise,
times identify frames as well. If not, frame i is the i-th that the decoder returns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media, size_of
from evlvideo.data.video.bitstreams import (
    first_slice,
    length_bytes,
    may_hold_fields,
    sequences,
    shows_av1_frame,
)
from evlvideo.data.video.frames import VideoMetadata
from evlvideo.data.video.packets import PacketReader, PacketTimes

_ONE_FRAME_A_PACKET = {"h264", "hevc", "vp8", "vp9", "av1", "mjpeg", "prores", "dnxhd", "ffv1"}
"""Codecs in which each packet shows one frame. In others, such as DivX's MPEG-4, some packets show none."""
_REORDERED = {"h264", "hevc"}
"""Those of them that store frames in another order than they show them."""
_WITHOUT_TIMES = {"avi"}
"""Containers without presentation times; FFmpeg guesses them, wrongly if frames are reordered."""


@dataclass(frozen=True, slots=True, eq=False)
class VideoIndex:
    """The frames of one stream in presentation order, F of them."""

    times: np.ndarray
    """Presentation time of each frame, int64 of shape (F,), in units of the stream's time base."""
    timestamps_seconds: np.ndarray
    """The same in seconds from the start of the file, float64 of shape (F,)."""
    by_time: bool
    """Whether `times` identify a decoded frame. If False, frames are counted."""
    by_packet: bool
    """Whether each packet shows one frame. If False, there are packets that show none, such as second fields."""
    first: PacketTimes
    """The first packet of the file."""
    keyframes: tuple[PacketTimes, ...]
    """Packets from which decoding can start, in presentation order."""
    open_groups: bool
    """Whether frames stored after a keyframe are shown before it, and so need packets before the keyframe."""
    false_keyframes: bool
    """Whether packets are wrongly marked as keyframes, which misleads decoders."""
    false_times: bool
    """Whether times contradict the order of frames, which misleads decoders."""
    container: str
    """FFmpeg's name of the file format."""
    stream: int
    """Index of the stream in the file."""
    damaged_packets: int
    """Packets that are incomplete or lie beyond the end of a truncated file. They are not counted as frames."""
    metadata: VideoMetadata


@dataclass(slots=True, eq=False)
class _Packets:
    """Facts about the packets of a stream."""

    first: PacketTimes
    starts_clean: bool
    """Whether decoding can start at the first packet, and its frame is shown."""
    shown: list[int | None]
    keyframes: list[PacketTimes]
    read: int = 0
    last_dts: int | None = None
    highest: int | None = None
    """The latest presentation time so far."""
    joined: list[int | None] = field(default_factory=list)
    """Presentation times of all packets, as if the clock had never been set back."""
    gap: int = 0
    """What is added to times since the clock was set back."""
    step: int = 0
    """Between the last two decoding times."""
    last_duration: int = 0
    damaged: int = 0
    open_groups: bool = False
    false_keyframes: bool = False
    fields: bool = False
    """Whether pictures may be single fields, two of which make a frame."""
    set_back: bool = False
    """Whether decoding times fall, as in recordings that were joined byte by byte."""
    reordered: bool = False
    """Whether presentation times fall, as they must if frames are stored in another order than they are shown."""
    bidirectional: bool = False
    """Whether pictures depend on later ones, and so are stored in another order than they are shown."""

    @property
    def by_time(self) -> bool:
        return None not in self.shown and len(set(self.shown)) == len(self.shown)

    @property
    def in_order(self) -> bool:
        """Whether the times of packets agree with the order of frames, as far as can be known without decoding."""
        return self.by_time and not self.set_back and (self.reordered or not self.bidirectional)


def check_file(path: Path) -> None:
    """Check before opening that a path can be a video; a named pipe would block.

    Raises:
        DecodeError: the file is missing, no regular file, empty, or not readable by this user.
    """
    try:
        if not path.exists():
            raise DecodeError(f"The video {path} does not exist.")
        if not path.is_file():
            raise DecodeError(f"The video {path} is not a file; name a video file such as clip.mp4.")
        if path.stat().st_size == 0:
            raise DecodeError(f"The video {path} is an empty file; copy or download it again.")
        path.open("rb").close()
    except OSError as error:
        raise DecodeError(f"The video {path} cannot be read: {error.strerror or error}.") from error


def read_index(reader: PacketReader) -> VideoIndex:
    """Index a file by reading its packets once. Changes the reader's position.

    Raises:
        DecodeError: the file has no frames.
        av.FFmpegError: it is broken.
    """
    codec = str(reader.stream.codec_context.codec.canonical_name)
    packets = _packets(reader, codec)
    container = reader.container.format.name
    with_times = codec in _ONE_FRAME_A_PACKET and container not in _WITHOUT_TIMES
    if with_times and packets.in_order and not packets.fields:
        by_time = by_packet = True
        first_frame, times = _shown_frames(reader, packets)
        seconds = _seconds(reader, times)
    else:
        first_frame, found = _decoded_times(reader)
        by_time = with_times and _rise(found)
        times = np.array(found, np.int64) if by_time else np.arange(len(found))
        given = set(found)
        paired = packets.fields and len(found) < packets.read
        by_packet = by_time and not paired and given <= set(packets.shown)
        if paired:
            # A second field may be marked as a keyframe, but its frame begins with the first.
            packets.keyframes = [place for place in packets.keyframes if place.pts in given]
            packets.last_duration = 0  # That of a field.
        seconds = _timeline(reader, packets, found)
    return VideoIndex(
        times=times,
        timestamps_seconds=seconds,
        by_time=by_time,
        by_packet=by_packet,
        first=packets.first,
        container=container,
        open_groups=packets.open_groups,
        false_keyframes=packets.false_keyframes,
        false_times=with_times and not by_time and None not in packets.shown,
        keyframes=tuple(sorted(packets.keyframes, key=lambda place: place.pts or 0)) if by_time else (),
        stream=reader.stream.index,
        damaged_packets=packets.damaged,
        metadata=_metadata(reader.stream, codec, first_frame, seconds, packets.last_duration),
    )


def rotation_of(frame: VideoFrame) -> int:
    """Return the counter-clockwise rotation of a frame in degrees: 0, 90, 180 or 270."""
    return round(frame.rotation / 90) * 90 % 360


def _packets(reader: PacketReader, codec: str) -> _Packets:
    found: _Packets | None = None
    # It takes away the times of frames that are not shown.
    splitter = BitStreamFilterContext("vp9_superframe_split", reader.stream) if codec == "vp9" else None
    units = length_bytes(reader.stream.codec_context.extradata or b"")
    for packet in reader.packets():
        if not packet.size:
            continue
        if found is None:
            found = _begin(reader, packet, codec)
        found.read += 1
        pts = packet.pts
        _note_clock(found, packet)
        if packet.is_corrupt:
            found.damaged += 1
            continue
        whole = _look_into(found, packet, units) if codec == "h264" else packet.is_keyframe
        _note_times(found, packet, whole)
        # An edit list discards packets.
        if not packet.is_discard and _is_shown(packet, codec, splitter):
            found.shown.append(pts)
            found.last_duration = packet.duration or found.last_duration
    if found is None or not found.shown:
        raise _no_frames(reader.media)
    found.damaged += _behind_the_end(reader, found.read)
    return found


def _begin(reader: PacketReader, first: "Packet[VideoStream]", codec: str) -> _Packets:
    context = reader.stream.codec_context
    return _Packets(
        first=PacketTimes(first.pts, first.dts),
        starts_clean=first.is_keyframe and not first.is_discard,
        shown=[],
        keyframes=[],
        bidirectional=codec in _REORDERED and context.has_b_frames,
        fields=codec == "h264" and may_hold_fields(sequences(context.extradata or b""), 0),
    )


def _look_into(found: _Packets, packet: "Packet[VideoStream]", units: int) -> bool:
    """Note what an H.264 packet says of itself; return whether decoding can start there."""
    if not packet.is_keyframe and (found.reordered or found.bidirectional):
        return False
    content = bytes(packet)
    first = first_slice(content, units)
    if first is not None:
        found.bidirectional |= first.bidirectional
    if not packet.is_keyframe:
        return False
    found.fields |= may_hold_fields(content, units)
    whole = first is not None and first.whole
    found.false_keyframes |= not whole
    return whole


def _note_clock(found: _Packets, packet: "Packet[VideoStream]") -> None:
    """Note whether the clock was set back before a packet."""
    if packet.dts is not None and found.last_dts is not None:
        if packet.dts < found.last_dts:
            found.set_back = True
            found.gap += found.last_dts - packet.dts + found.step
        else:
            found.step = packet.dts - found.last_dts
    found.last_dts = packet.dts if packet.dts is not None else found.last_dts
    found.joined.append(None if packet.pts is None else packet.pts + found.gap)


def _note_times(found: _Packets, packet: "Packet[VideoStream]", whole: bool) -> None:
    """Note a packet's times; it is `whole` if decoding can start there."""
    place = PacketTimes(packet.pts, packet.dts)
    if place.pts is None:
        return
    if whole:
        # What is stored before a keyframe is shown before it.
        found.set_back |= found.highest is not None and place.pts <= found.highest
        found.keyframes.append(place)
    elif found.keyframes and place.pts < (found.keyframes[-1].pts or 0):
        found.open_groups = True
    if found.highest is None or place.pts > found.highest:
        found.highest = place.pts
    else:
        found.reordered = True


def _is_shown(packet: "Packet[VideoStream]", codec: str, splitter: BitStreamFilterContext | None) -> bool:
    """Tell whether a packet of a codec with hidden frames shows one. May take away its content."""
    if codec == "vp8":
        return bool(bytes(packet)[0] >> 4 & 1)
    if codec == "av1":
        return shows_av1_frame(bytes(packet))
    if splitter is None:
        return True
    try:
        return any(frame.pts is not None for frame in splitter.filter(packet))
    except av.FFmpegError:
        return True  # It is damaged, which decoding tells.


def _behind_the_end(reader: PacketReader, read: int) -> int:
    """Count the packets that the container's own index lists beyond the end of the file."""
    entries = reader.stream.index_entries
    if len(entries) <= read:
        return 0
    size = size_of(reader.media)
    return sum(entry.pos >= size for entry in entries)


def _shown_frames(reader: PacketReader, packets: _Packets) -> tuple[VideoFrame, np.ndarray]:
    """Decode the first frame, and sort the times of all shown frames.

    Frames before the first keyframe do not count if the frames that they depend on were cut away.
    """
    times = np.array(packets.shown, np.int64)
    times.sort()
    reader.restart(packets.first)
    decoded: list[VideoFrame] = []
    if packets.starts_clean and times[0] == packets.first.pts:
        # Flush the decoder, which returns its first frame late.
        decoded = [*reader.stream.decode(next(reader.packets())), *reader.stream.decode(None)]
        reader.restart(packets.first)
    frame = decoded[0] if decoded else next(reader.frames(), None)
    if frame is None:
        raise _no_frames(reader.media)
    return frame, times if frame.pts is None else times[times >= frame.pts]


def _decoded_times(reader: PacketReader) -> tuple[VideoFrame, list[int | None]]:
    """Decode everything once; return the first frame, and the time of each."""
    reader.restart(None)
    first: VideoFrame | None = None
    times: list[int | None] = []
    for frame in reader.frames():
        first = first or frame
        times.append(frame.pts)
    if first is None:
        raise _no_frames(reader.media)
    return first, times


def _timeline(reader: PacketReader, packets: _Packets, times: list[int | None]) -> np.ndarray:
    """Return when decoded frames are shown, in seconds, from their times or those of packets, if these make sense."""
    if _rise(times):
        return _seconds(reader, np.array(times, np.int64))
    stored = [time for time in packets.joined if time is not None]
    distinct = np.unique(stored)
    guessed = reader.container.format.name in _WITHOUT_TIMES
    if guessed or len(distinct) * 2 < len(times) or not len(stored) == len(packets.joined) == len(times):
        return np.arange(len(times)) / float(reader.stream.average_rate or reader.stream.guessed_rate or 25)
    # Where frames share a time, they are spread until the next.
    spread = np.interp(np.arange(len(times)), np.searchsorted(np.sort(stored), distinct), distinct)
    return _seconds(reader, spread) if not packets.set_back else _seconds(reader, spread) - _seconds(reader, spread[:1])


def _rise(times: Sequence[int | None]) -> bool:
    known = [time for time in times if time is not None]
    return len(known) == len(times) and all(one < next_ for one, next_ in pairwise(known))


def _seconds(reader: PacketReader, times: np.ndarray) -> np.ndarray:
    start = (reader.container.start_time or 0) / av.time_base
    seconds: np.ndarray = times * float(reader.stream.time_base or 1) - start
    return seconds


def _metadata(
    stream: VideoStream, codec: str, frame: VideoFrame, seconds: np.ndarray, last_duration: int
) -> VideoMetadata:
    rotation = rotation_of(frame)
    width, height = (frame.height, frame.width) if rotation % 180 else (frame.width, frame.height)
    span = float(seconds[-1] - seconds[0])
    rate = (len(seconds) - 1) / span if span > 0 else float(stream.average_rate or 0)
    last_seconds = last_duration * float(stream.time_base or 0) or (1 / rate if rate else 0.0)
    return VideoMetadata(
        frames=len(seconds),
        rate=rate,
        width=width,
        height=height,
        codec=codec,
        rotation=rotation,
        duration_seconds=span + last_seconds,
    )


def _no_frames(media: Media) -> DecodeError:
    return DecodeError(f"{media} cannot be decoded: it holds no frames. Is it a video, and whole?")

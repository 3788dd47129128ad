"""Which frames a video file shows, and when: the one meaning of "frame i" for all decoders.

Frame i is the i-th that is shown, in presentation order. It is found from the packets alone, without decoding, where
each packet shows one frame; else all frames are decoded once and counted.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media, size_of
from evlvideo.data.video.frames import VideoMetadata
from evlvideo.data.video.packets import PacketReader, PacketTimes

_ONE_FRAME_A_PACKET = {"h264", "hevc", "vp8", "vp9", "av1", "mjpeg", "prores", "dnxhd", "ffv1"}
"""Codecs whose packets each show one frame. Others, such as MPEG-4 of the DivX kind, hold packets that show none."""
_PICTURES, _IDR = range(1, 6), 5
"""Kinds of H.264's units that hold pictures, and that which clears the decoder (ITU-T H.264, table 7-1)."""
_INTRA_SLICES = {2, 7}
"""Kinds of slices that are coded from nothing else (its table 7-6)."""
_WITHOUT_TIMES = {"avi"}
"""Containers that do not say when a frame is shown; FFmpeg makes up times, wrong ones where frames are reordered."""


@dataclass(frozen=True, slots=True, eq=False)
class VideoIndex:
    """The frames of one stream in presentation order, F of them."""

    times: np.ndarray
    """When each frame is shown, int64 of shape (F,), in units of the stream's time base."""
    timestamps_seconds: np.ndarray
    """The same from the start of the file, float64 of shape (F,)."""
    by_time: bool
    """Whether `times` are known and distinct, so that a decoded frame is recognised by its own; else it is counted."""
    first: PacketTimes
    """The first packet of the file."""
    keyframes: tuple[PacketTimes, ...]
    """Packets from which decoding can start, in the order in which they are shown."""
    open_groups: bool
    """Whether frames are stored after a keyframe and shown before it, which need what came before the keyframe."""
    false_keyframes: bool
    """Whether packets are marked as keyframes that are none, and mislead a decoder that trusts them."""
    container: str
    """FFmpeg's name of the file format."""
    stream: int
    """Number of the stream in the file."""
    damaged_packets: int
    """Packets that are incomplete or behind the end of the file, as those of a file that was cut off. They are no
    frames."""
    metadata: VideoMetadata


@dataclass(slots=True, eq=False)
class _Packets:
    """What the packets of a stream tell."""

    first: PacketTimes
    starts_clean: bool
    """Whether decoding can start at the first packet, and its frame is shown."""
    shown: list[int | None]
    keyframes: list[PacketTimes]
    read: int = 0
    last_duration: int = 0
    damaged: int = 0
    open_groups: bool = False
    false_keyframes: bool = False

    @property
    def by_time(self) -> bool:
        return None not in self.shown and len(set(self.shown)) == len(self.shown)


def check_file(path: Path) -> None:
    """Refuse what cannot be a video before anything opens it; opening a named pipe would wait for its writer.

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
    """Read through a file once. The reader is left where that ends.

    Raises:
        DecodeError: the file has no frames.
        av.FFmpegError: it is broken.
    """
    codec = str(reader.stream.codec_context.codec.canonical_name)
    packets = _packets(reader, codec)
    container = reader.container.format.name
    by_time = packets.by_time and codec in _ONE_FRAME_A_PACKET and container not in _WITHOUT_TIMES
    if by_time:
        first_frame, times = _shown_frames(reader, packets)
        seconds = _seconds(reader, times)
    else:
        first_frame, seconds = _count_by_decoding(reader, packets)
        times = np.arange(len(seconds))
    return VideoIndex(
        times=times,
        timestamps_seconds=seconds,
        by_time=by_time,
        first=packets.first,
        container=container,
        open_groups=packets.open_groups,
        false_keyframes=packets.false_keyframes,
        keyframes=tuple(sorted(packets.keyframes, key=lambda place: place.pts or 0)) if by_time else (),
        stream=reader.stream.index,
        damaged_packets=packets.damaged,
        metadata=_metadata(reader.stream, codec, first_frame, seconds, packets.last_duration),
    )


def rotation_of(frame: VideoFrame) -> int:
    """Degrees, counter-clockwise, by which a frame is turned to be shown: 0, 90, 180 or 270."""
    return round(frame.rotation / 90) * 90 % 360


def _packets(reader: PacketReader, codec: str) -> _Packets:
    found: _Packets | None = None
    length_bytes = _length_bytes(reader.stream.codec_context.extradata or b"")
    for packet in reader.packets():
        if not packet.size:
            continue
        place = PacketTimes(packet.pts, packet.dts)
        if found is None:
            found = _Packets(place, packet.is_keyframe and not packet.is_discard, [], [])
        found.read += 1
        if packet.is_corrupt:
            found.damaged += 1
            continue
        if packet.is_keyframe and packet.pts is not None:
            if codec != "h264" or _is_whole(bytes(packet), length_bytes):
                found.keyframes.append(place)
            else:
                found.false_keyframes = True
        elif found.keyframes and packet.pts is not None and packet.pts < (found.keyframes[-1].pts or 0):
            found.open_groups = True
        # An edit list discards packets; VP8 says in its first byte whether the frame is shown.
        if not packet.is_discard and not (codec == "vp8" and not bytes(packet)[0] >> 4 & 1):
            found.shown.append(packet.pts)
            found.last_duration = packet.duration or found.last_duration
    if found is None or not found.shown:
        raise _no_frames(reader.media)
    found.damaged += _behind_the_end(reader, found.read)
    return found


def _behind_the_end(reader: PacketReader, read: int) -> int:
    """How many packets the file's own index promises where the file has ended; none where it has no index."""
    entries = reader.stream.index_entries
    if len(entries) <= read:
        return 0
    size = size_of(reader.media)
    return sum(entry.pos >= size for entry in entries)


def _length_bytes(extradata: bytes) -> int:
    """How many bytes before each unit of H.264 tell its length; 0 where start codes divide them (ISO 14496-15)."""
    return (extradata[4] & 3) + 1 if len(extradata) > 4 and extradata[0] == 1 else 0


def _is_whole(packet: bytes, length_bytes: int) -> bool:
    """Tell whether an H.264 keyframe is coded from nothing else.

    Where pictures are refreshed piece by piece, frames are marked as keyframes that are not.
    """
    if not length_bytes:
        starts: Iterable[int] = (code.end() for code in re.finditer(b"\0\0\1", packet))
    else:
        starts = _starts(packet, length_bytes)
    for start in starts:
        if start + 3 < len(packet) and packet[start] & 31 in _PICTURES:
            bits = f"{int.from_bytes(packet[start + 1 : start + 4], 'big'):024b}"
            _, bits = _exp_golomb(bits)  # The first macroblock's number.
            return packet[start] & 31 == _IDR or _exp_golomb(bits)[0] in _INTRA_SLICES
    return False


def _starts(packet: bytes, length_bytes: int) -> Iterator[int]:
    """Give where each unit starts, behind its length."""
    place = 0
    while place + length_bytes < len(packet):
        yield place + length_bytes
        place += length_bytes + int.from_bytes(packet[place : place + length_bytes], "big")


def _exp_golomb(bits: str) -> tuple[int, str]:
    """Read a number as H.264 writes it (its section 9.1), and give the rest."""
    zeros = len(bits) - len(bits.lstrip("0"))
    end = 2 * zeros + 1
    return int(bits[zeros:end] or "0", 2) - 1, bits[end:]


def _shown_frames(reader: PacketReader, packets: _Packets) -> tuple[VideoFrame, np.ndarray]:
    """Decode the first frame, and sort the times of all that are shown.

    Frames before the first keyframe cannot be decoded where what they were coded from was cut away; they are no frames.
    """
    times = np.array(packets.shown, np.int64)
    times.sort()
    reader.restart(packets.first)
    if packets.starts_clean and times[0] == packets.first.pts:
        # A decoder gives out its first frame late; told that nothing follows, it gives it out now.
        decoded = [*reader.stream.decode(next(reader.packets())), *reader.stream.decode(None)]
        frame = decoded[0] if decoded else None
    else:
        frame = next(reader.frames(), None)
    if frame is None:
        raise _no_frames(reader.media)
    return frame, times if frame.pts is None else times[times >= frame.pts]


def _count_by_decoding(reader: PacketReader, packets: _Packets) -> tuple[VideoFrame, np.ndarray]:
    """Decode everything once.

    Returns:
        The first frame, and the time of each frame in seconds. Where frames carry none, the stream's rate gives it.
    """
    reader.restart(packets.first)
    first: VideoFrame | None = None
    times: list[int | None] = []
    for frame in reader.frames():
        first = first or frame
        times.append(frame.pts)
    if first is None:
        raise _no_frames(reader.media)
    known = np.array([time for time in times if time is not None], np.int64)
    if len(known) == len(times) and (np.diff(known) > 0).all():
        return first, _seconds(reader, known)
    return first, np.arange(len(times)) / float(reader.stream.average_rate or reader.stream.guessed_rate or 25)


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

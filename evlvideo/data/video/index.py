"""Index the frames of a video file and their times. Defines "frame i" for all decoders.

Frame i is the i-th in presentation order. If each packet shows one frame, the index is made from packets without
decoding. Otherwise, all frames are decoded once and counted.
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
"""Codecs in which each packet shows one frame. In others, such as DivX's MPEG-4, some packets show none."""
_PICTURES, _IDR = range(1, 6), 5
"""Types of H.264 units that hold coded pictures, and the type that resets the decoder (ITU-T H.264, table 7-1)."""
_INTRA_SLICES = {2, 7}
"""Types of intra slices, which depend on no other picture (table 7-6)."""
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
    """Whether `times` are known and distinct, and so identify a decoded frame. If False, frames are counted."""
    first: PacketTimes
    """The first packet of the file."""
    keyframes: tuple[PacketTimes, ...]
    """Packets from which decoding can start, in presentation order."""
    open_groups: bool
    """Whether frames stored after a keyframe are shown before it, and so need packets before the keyframe."""
    false_keyframes: bool
    """Whether packets are wrongly marked as keyframes, which misleads decoders."""
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
    last_duration: int = 0
    damaged: int = 0
    open_groups: bool = False
    false_keyframes: bool = False

    @property
    def by_time(self) -> bool:
        return None not in self.shown and len(set(self.shown)) == len(self.shown)


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
    """Return the counter-clockwise rotation of a frame in degrees: 0, 90, 180 or 270."""
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
    """Count the packets that the container's own index lists beyond the end of the file."""
    entries = reader.stream.index_entries
    if len(entries) <= read:
        return 0
    size = size_of(reader.media)
    return sum(entry.pos >= size for entry in entries)


def _length_bytes(extradata: bytes) -> int:
    """Return the size of each H.264 unit's length prefix; 0 if start codes separate units (ISO 14496-15)."""
    return (extradata[4] & 3) + 1 if len(extradata) > 4 and extradata[0] == 1 else 0


def _is_whole(packet: bytes, length_bytes: int) -> bool:
    """Check that an H.264 keyframe depends on no other picture.

    With periodic intra refresh, other frames are marked as keyframes too.
    """
    if not length_bytes:
        starts: Iterable[int] = (code.end() for code in re.finditer(b"\0\0\1", packet))
    else:
        starts = _starts(packet, length_bytes)
    for start in starts:
        if start + 3 < len(packet) and packet[start] & 31 in _PICTURES:
            bits = f"{int.from_bytes(packet[start + 1 : start + 4], 'big'):024b}"
            _, bits = _exp_golomb(bits)  # Index of the first macroblock.
            return packet[start] & 31 == _IDR or _exp_golomb(bits)[0] in _INTRA_SLICES
    return False


def _starts(packet: bytes, length_bytes: int) -> Iterator[int]:
    """Yield the start of each unit, after its length."""
    place = 0
    while place + length_bytes < len(packet):
        yield place + length_bytes
        place += length_bytes + int.from_bytes(packet[place : place + length_bytes], "big")


def _exp_golomb(bits: str) -> tuple[int, str]:
    """Read an Exp-Golomb number (H.264, section 9.1); return it and the remaining bits."""
    zeros = len(bits) - len(bits.lstrip("0"))
    end = 2 * zeros + 1
    return int(bits[zeros:end] or "0", 2) - 1, bits[end:]


def _shown_frames(reader: PacketReader, packets: _Packets) -> tuple[VideoFrame, np.ndarray]:
    """Decode the first frame, and sort the times of all shown frames.

    Frames before the first keyframe do not count if the frames that they depend on were cut away.
    """
    times = np.array(packets.shown, np.int64)
    times.sort()
    reader.restart(packets.first)
    if packets.starts_clean and times[0] == packets.first.pts:
        # Flush the decoder, which returns its first frame late.
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
        The first frame, and the time of each frame in seconds, from the stream's rate if frames have no times.
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

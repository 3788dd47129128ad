"""Decode a whole video to find damage, with every check that decoders offer.

By default, decoders conceal damage. What they do not notice is not found here either: in codecs without checksums,
damaged bytes may be a valid, wrong picture. `scripts/benchmarks/damage.py` measures how much goes unnoticed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import cast

import av
from av.video.codeccontext import VideoCodecContext

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media
from evlvideo.data.video.index import VideoIndex
from evlvideo.data.video.packets import PacketReader

_CHECKS = {"err_detect": "crccheck+bitstream+buffer+explode"}
"""Options of FFmpeg's decoders that turn damage into errors."""
_ATTENTIVE = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that notice more than FFmpeg's own."""


def decode_all(media: Media, index: VideoIndex) -> None:
    """Decode every frame of a file, and keep none.

    Raises:
        DecodeError: a frame that the file lists is damaged or missing.
        av.FFmpegError: the file is broken.
    """
    with PacketReader(media) as reader, _errors_in_log() as errors:
        given = set(_frames(reader, index))
    # The reader of Matroska goes on after what is broken, where a frame may have been, and tells its log alone.
    lost = [message for _, name, message in errors if name == "matroska,webm" and "EBML" in message]
    if lost:
        raise DecodeError(f"{media} was cut off or damaged: {lost[0].strip().splitlines()[0]}.")
    missing = [place for place, time in enumerate(index.times.tolist()) if time not in given]
    if missing:
        raise _damaged(reader, index, missing[0], "missing")


@contextmanager
def _errors_in_log() -> Iterator[list[tuple[int, str, str]]]:
    """Collect FFmpeg's errors in this thread."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as messages:
            yield messages
    finally:
        av.logging.set_level(level)


def _frames(reader: PacketReader, index: VideoIndex) -> Iterator[int]:
    """Yield the time or number of each whole frame."""
    packets = reader.packets()
    first = next(packets)
    cut = not first.is_keyframe
    context, count = _decoder(reader, index, cut), 0
    for packet in chain([first], packets):
        pts, hidden = packet.pts, packet.is_discard
        try:
            frames = context.decode(packet if packet.size else None)
        except av.FFmpegError:
            early = pts is not None and pts < index.times[0] if index.by_time else cut and not count
            if early and (cut or not hidden):
                continue  # It may depend on what was cut away, and is not listed.
            place = int(index.times.searchsorted(pts)) if index.by_time and pts is not None else count
            raise _damaged(reader, index, place, "damaged") from None
        for frame in frames:
            time = frame.pts if index.by_time else count
            if frame.is_corrupt and time is not None and time >= index.times[0]:
                raise _damaged(reader, index, count, "damaged")
            if time is not None:
                yield time
            count += 1


def _decoder(reader: PacketReader, index: VideoIndex, cut: bool) -> VideoCodecContext:
    """Return a decoder that checks as much as it can; with less if what the first frames depend on was cut away."""
    name = _ATTENTIVE.get(index.metadata.codec)
    context = reader.stream.codec_context
    if name in av.codecs_available:
        context = cast(VideoCodecContext, av.CodecContext.create(name, "r"))
    if not cut:
        context.options = _CHECKS
    return context


def _damaged(reader: PacketReader, index: VideoIndex, place: int, how: str) -> DecodeError:
    place = min(place, len(index.times) - 1)
    return DecodeError(
        f"{reader.media} cannot be decoded: frame {place} of {len(index.times)}, at "
        f"{index.timestamps_seconds[place]:.2f} s, is {how}. Is the file whole?"
    )

"""Read packets of a video file, from its start or from a keyframe."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from evlvideo.data.media.containers import open_container
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media

_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders of what WebM stores beside each frame."""


@dataclass(frozen=True, slots=True)
class PacketTimes:
    """Timestamps of a packet, in units of the stream's time base."""

    pts: int | None
    """Presentation time of its frame."""
    dts: int | None
    """Decoding time."""


class PacketReader:
    """An open video file. Close it within the call that opened it: a decoder hangs after a fork.

    Reads the stream that FFmpeg ranks best. Decodes in one thread, since data loaders run many processes.

    Args:
        media: a video.
    """

    def __init__(self, media: Media) -> None:
        self.media = media
        self._open()

    def __enter__(self) -> "PacketReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.container.close()

    def packets(self) -> Iterator["Packet[VideoStream]"]:
        """Yield the packets from here to the end of the file, then an empty one.

        Raises:
            DecodeError: a packet belongs to a stream that the start of the file does not announce.
        """
        while self._ahead:
            yield self._ahead.pop()
        try:
            yield from self._demuxed
        except IndexError as error:  # PyAV knows only the streams announced at the start.
            raise DecodeError(
                f"{self.media} cannot be decoded: a stream begins in the middle of it. Is it a video, and whole?"
            ) from error

    def frames(self) -> Iterator[VideoFrame]:
        """Decode from here to the end of the file."""
        for packet in self.packets():
            yield from self.context.decode(packet)

    def restart(self, first: PacketTimes | None) -> None:
        """Go back to the first packet of the file.

        Args:
            first: its times, for faster seeking. If None, others may have the same, as in joined recordings.
        """
        if first is None or not self._seek(first.dts, first):
            self.container.close()
            self._open()

    def start_at(self, keyframe: PacketTimes) -> bool:
        """Go to a keyframe.

        Returns:
            whether the next packet is that keyframe, or an earlier one from which decoding reaches it.
        """
        # FFmpeg compares the target with decoding times, less a guess at the delay until presentation. Seeking by pts
        # may lead to a later keyframe, by dts to an earlier one, from which decoding takes longer.
        # A keyframe's transparency may be no keyframe.
        return not self._has_alpha and (self._seek(keyframe.pts, keyframe) or self._seek(keyframe.dts, keyframe))

    def _seek(self, target: int | None, wanted: PacketTimes) -> bool:
        if target is None or wanted.pts is None:
            return False
        self._ahead.clear()
        try:
            self.container.seek(target, stream=self.stream, backward=True)
            self.context.flush_buffers()
            self._demuxed = self.container.demux(self.stream)
            landed = next(self._demuxed, None)
        except (av.FFmpegError, OSError):
            return False
        if landed is None or not landed.size:
            return False
        self._ahead.append(landed)
        if PacketTimes(landed.pts, landed.dts) == wanted:
            return True
        return landed.is_keyframe and landed.pts is not None and landed.pts <= wanted.pts

    def _open(self) -> None:
        self.container: InputContainer = open_container(self.media)
        stream = self.container.streams.best("video")
        if not isinstance(stream, VideoStream):
            self.container.close()
            raise DecodeError(f"{self.media} holds no video stream; name a video file.")
        if stream.codec_context is None:
            self.container.close()
            raise DecodeError(f"{self.media} cannot be decoded: FFmpeg here has no decoder for it.")
        self.stream = stream
        self.context = self._decoder(stream)
        self.context.thread_count = 1
        self._ahead: list[Packet[VideoStream]] = []
        self._demuxed = self.container.demux(stream)

    @property
    def _has_alpha(self) -> bool:
        return self.context is not self.stream.codec_context

    def _decoder(self, stream: VideoStream) -> VideoCodecContext:
        """Return the stream's decoder, or the one that reads the transparency of WebM, which FFmpeg's own ignores."""
        name = _WITH_ALPHA.get(stream.codec_context.codec.canonical_name)
        if stream.metadata.get("alpha_mode") == "1" and name in av.codecs_available:
            return cast(VideoCodecContext, av.CodecContext.create(name, "r"))
        return stream.codec_context

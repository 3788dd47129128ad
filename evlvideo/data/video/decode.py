"""Frames of a video file: look into the file, choose, decode.

All backends speak of the same frames, those of :mod:`evlvideo.data.video.index`. `auto` is PyAV, which is right on all
that was tried and no slower than the others, since it decodes no more than the frames asked for need. Another serves
where PyAV fails for a reason of its own; a file whose data are broken is refused, since another would paint over the
hole.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media, as_file
from evlvideo.data.video.backends import decord, image, pyav, torchcodec
from evlvideo.data.video.frames import DecodedFrames, VideoMetadata
from evlvideo.data.video.index import VideoIndex, check_file, read_index
from evlvideo.data.video.index_cache import cached_index
from evlvideo.data.video.packets import PacketReader
from evlvideo.errors import UserError

Choose = Callable[[int, float], Sequence[int]]
"""From the number of frames and their rate per second to the indices wanted, from 0, in any order, with repetitions."""

BACKENDS = ("auto", "pyav", "decord", "torchcodec")
"""Decoders by name; `auto` is the one to use."""

DECODING_VERSION = 1
"""Goes up when a frame of the same file comes out otherwise, and stored features of it are stale."""

_OTHERS = {"decord": decord.decode, "torchcodec": torchcodec.decode}
_FALLBACKS = ("torchcodec", "decord")
_SMALL = 32
"""Side in pixels to which frames are scaled that nobody looks at."""
_REFUSALS = (av.FFmpegError, OSError, ValueError, RuntimeError, MemoryError, ArithmeticError)
"""What PyAV raises on files that it cannot read."""
_BROKEN_DATA = (av.error.InvalidDataError, OSError, MemoryError)
"""Those that lie in the file or the machine, so that no other decoder is asked."""


@dataclass(frozen=True, slots=True)
class FrameRange:
    """The frames of a file from which a clip is taken."""

    first: int
    """Index of the first, in the file."""
    count: int
    rate: float
    """Frames per second."""


def decode_frames(
    media: Media,
    choose: Choose,
    size: int | None = None,
    *,
    keep_aspect: bool = False,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    backend: str = "auto",
) -> DecodedFrames:
    """Decode chosen frames of a video, or of a picture, which is a video of one frame.

    Frames are scaled bilinearly while they are decoded, by default straight to a square, as published for EVLGen-video.
    A rotation stored in the file is applied; mirroring and pixels that are not square are not.

    Args:
        media: a video, or a picture by its suffix: a file, or a member of a shard.
        choose: which frames, of those between the two times.
        size: side of the square in pixels; `None` keeps the file's height and width.
        keep_aspect: scale so that the shorter side is `size`, in the place of a square.
        start_seconds: take frames shown at or after this time, from the start of the file.
        end_seconds: take frames shown before this time.
        backend: one of `BACKENDS`.

    Raises:
        DecodeError: the file is missing, empty, not a video, broken where it is needed, or shows nothing between the
            two times; the message names the file and the reason.
        UserError: the backend is unknown or not installed, or a shard is gone.
    """
    with open_video(media, start_seconds, end_seconds) as source:
        return source.read(
            choose(source.range.count, source.range.rate), size, keep_aspect=keep_aspect, backend=backend
        )


def check_video(media: Media, frames: int | None = None) -> int:
    """Find out whether a video or picture can be decoded, by what it holds now and nothing that was known of it.

    Args:
        media: the file, or a member of a shard.
        frames: how many frames are decoded, spread evenly; `None` decodes every one.

    Returns:
        how many frames the file shows.

    Raises:
        DecodeError: a frame cannot be decoded, or the file was cut off.
    """
    with open_video(media, cached=False) as clip:
        count = clip.range.count
        if clip.index is None or clip.reader is None:
            clip.read([0])
        elif clip.index.damaged_packets:
            raise DecodeError(f"{media} was cut off or damaged: {clip.index.damaged_packets} packets are incomplete.")
        elif frames is None:
            with _named(media):
                pyav.decode_all(clip.reader, clip.index)
        else:
            clip.read([place * count // frames for place in range(frames)], _SMALL)
        return count


@dataclass(frozen=True, slots=True, eq=False)
class OpenVideo:
    """A file that was looked into, open for the length of a call: it must not live through a fork."""

    media: Media
    range: FrameRange
    index: VideoIndex | None
    """`None` for a picture."""
    reader: PacketReader | None

    def read(
        self, chosen: Sequence[int], size: int | None = None, *, keep_aspect: bool = False, backend: str = "auto"
    ) -> DecodedFrames:
        """Decode frames, counted from the first of the range; see :func:`decode_frames`."""
        if backend not in BACKENDS:
            raise UserError(f"The backend is {backend!r}; allowed: {', '.join(BACKENDS)}.")
        outside = [index for index in chosen if not 0 <= index < self.range.count]
        if outside or not chosen:
            raise ValueError(f"Frames {list(chosen)} were asked of {self.range.count} in {self.media}.")
        if self.index is None or self.reader is None:
            return _picture(self.media, chosen, size, keep_aspect)
        wanted = np.asarray(chosen) + self.range.first
        ascending, places = np.unique(wanted, return_inverse=True)
        height, width = _sides(self.index.metadata, size, keep_aspect)
        with _named(self.media):
            frames, used = _decode(self.reader, self.index, ascending.tolist(), height, width, backend)
        return DecodedFrames(
            frames=frames[places],
            timestamps_seconds=self.index.timestamps_seconds[wanted],
            indices=tuple(wanted.tolist()),
            metadata=self.index.metadata,
            backend=used,
        )


@contextmanager
def open_video(
    media: Media, start_seconds: float | None = None, end_seconds: float | None = None, *, cached: bool = True
) -> Iterator[OpenVideo]:
    """Look into a file, to decode frames of it in a second step; see :func:`decode_frames`.

    Args:
        media: as there.
        start_seconds: as there.
        end_seconds: as there.
        cached: whether the file's index may come from :mod:`evlvideo.data.video.index_cache`.
    """
    if isinstance(media, Path):
        check_file(media)
    if media.suffix.lower() in image.IMAGE_SUFFIXES:
        yield OpenVideo(media, FrameRange(0, 1, 0.0), None, None)
        return
    with ExitStack() as stack:
        with _named(media):
            reader = stack.enter_context(PacketReader(media))
            index = cached_index(reader) if cached else read_index(reader)
        yield OpenVideo(media, _range(media, index, start_seconds, end_seconds), index, reader)


@contextmanager
def _named(media: Media) -> Iterator[None]:
    """Turn what decoders raise into an error that names the file."""
    try:
        yield
    except _REFUSALS as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DecodeError(f"{media} cannot be decoded: {reason}. Is it a video, and whole?") from error


def _range(media: Media, index: VideoIndex, start_seconds: float | None, end_seconds: float | None) -> FrameRange:
    """Find the frames of a half-open range of times."""
    seconds = index.timestamps_seconds
    first = 0 if start_seconds is None else int(np.searchsorted(seconds, start_seconds))
    end = len(seconds) if end_seconds is None else int(np.searchsorted(seconds, end_seconds))
    if end <= first:
        raise DecodeError(
            f"{media} shows no frame from {start_seconds or 0:g} s to "
            f"{'its end' if end_seconds is None else f'{end_seconds:g} s'}; it lasts from {seconds[0]:.2f} s to "
            f"{seconds[0] + index.metadata.duration_seconds:.2f} s."
        )
    return FrameRange(first, end - first, index.metadata.rate)


def _decode(
    reader: PacketReader, index: VideoIndex, indices: list[int], height: int, width: int, backend: str
) -> tuple[np.ndarray, str]:
    """Decode ascending indices, and tell by what."""
    if backend in _OTHERS:
        try:
            return _other(backend, reader.media, index, indices, height, width), backend
        except ImportError as error:
            raise UserError(f"The backend {backend!r} is not installed here ({error}); use 'auto'.") from error
    try:
        return pyav.decode(reader, index, indices, height, width), "pyav"
    except _REFUSALS as error:
        if backend == "auto" and not isinstance(error, _BROKEN_DATA):
            for other in _FALLBACKS:
                with suppress(DecodeError, ImportError):
                    return _other(other, reader.media, index, indices, height, width), other
        raise


def _other(backend: str, media: Media, index: VideoIndex, indices: list[int], height: int, width: int) -> np.ndarray:
    with as_file(media) as path:
        frames = _OTHERS[backend](path, index, indices, height, width)
    if frames.shape != (len(indices), height, width, 3):
        raise DecodeError(f"{media} cannot be decoded by {backend}: it gave frames of shape {frames.shape}.")
    return frames


def _sides(metadata: VideoMetadata, size: int | None, keep_aspect: bool) -> tuple[int, int]:
    """Height and width of the result."""
    if size is None:
        return metadata.height, metadata.width
    if not keep_aspect:
        return size, size
    shorter = min(metadata.height, metadata.width)
    return max(size, round(metadata.height * size / shorter)), max(size, round(metadata.width * size / shorter))


def _picture(media: Media, chosen: Sequence[int], size: int | None, keep_aspect: bool) -> DecodedFrames:
    picture = image.read_image(media)
    metadata = VideoMetadata(
        frames=1,
        rate=0.0,
        width=picture.width,
        height=picture.height,
        codec=media.suffix.lower().lstrip("."),
        rotation=0,
        duration_seconds=0.0,
    )
    pixels = image.resize(picture, *_sides(metadata, size, keep_aspect))
    count = len(chosen)
    return DecodedFrames(np.repeat(pixels[None], count, axis=0), np.zeros(count), (0,) * count, metadata, "pillow")

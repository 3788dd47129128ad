"""Decode frames of a video: open the file, choose indices, decode.

The modules of this folder in the order of one file: `packets` reads it, `index` lists its frames, `index_cache` stores
that list, `sampling` chooses indices, and a backend decodes them. `guarded` does all of it in a helper process, which
runs `decode_server`.

All backends index frames as :mod:`evlvideo.data.video.index` does. `auto` is PyAV, which is correct on every file in
our tests and as fast as the others. If PyAV itself fails, `auto` tries other backends. It refuses files that PyAV finds
broken, in which other decoders would conceal the damage. More damage is found by :func:`check_video`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media, as_file
from evlvideo.data.video.backends import decord, image, pyav, strict, torchcodec
from evlvideo.data.video.backends.image import Picture
from evlvideo.data.video.frames import DecodedFrames, VideoMetadata
from evlvideo.data.video.index import VideoIndex, check_file, read_index
from evlvideo.data.video.index_cache import cached_index
from evlvideo.data.video.packets import PacketReader
from evlvideo.errors import UserError

Choose = Callable[[int, np.ndarray], Sequence[int]]
"""From the number of frames and the time of each in seconds to indices from 0, in any order, with repetitions."""

BACKENDS = ("auto", "pyav", "decord", "torchcodec")
"""Decoders by name; use `auto`."""

DECODING_VERSION = 2
"""Increase it if decoded pixels change, which makes stored features stale."""

_OTHERS = {"decord": decord.decode, "torchcodec": torchcodec.decode}
_FALLBACKS = ("torchcodec", "decord")
_SMALL = 32
"""Side in pixels of frames that are decoded only as a check."""
_GIF = "gif"
_REFUSALS = (av.FFmpegError, OSError, ValueError, RuntimeError, MemoryError, ArithmeticError)
"""Errors of PyAV on files that it cannot read."""
_BROKEN_DATA = (av.error.InvalidDataError, OSError, MemoryError)
"""Errors due to the file or the machine, after which no other decoder is tried."""


@dataclass(frozen=True, slots=True, eq=False)
class FrameRange:
    """The frames of a file that belong to a clip."""

    first: int
    """Index of the first frame in the file."""
    count: int
    seconds: np.ndarray
    """When each of them is shown, from the start of the file, float64 of shape (count,)."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of a file before any of its frames is decoded."""

    metadata: VideoMetadata
    start_seconds: float
    """When its first frame is shown, from the start of the file."""
    seekable: bool
    """Whether a frame can be decoded without all frames before it."""


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
    """Decode chosen frames of a video, an animation, or an image, which is a video of one frame.

    Frames are scaled bilinearly while decoding, by default to a square, as published for EVLGen-video. The rotation
    stored in the file is applied; mirroring and non-square pixels of videos are not. What is transparent is on white.

    Args:
        media: a video or a picture, by its content: a file, or a member of a shard.
        choose: chooses among the frames between the two times.
        size: side of the square in pixels. Defaults to the height and width of the file.
        keep_aspect: scale the shorter side to `size` instead of to a square.
        start_seconds: take frames that appear at or after this time, from the start of the file.
        end_seconds: take frames that appear before this time. If there are none, take the frame that is on the screen
            at `start_seconds`.
        backend: one of `BACKENDS`.

    Raises:
        DecodeError: the file is missing, empty, no video, broken before a needed frame, or has no frame between the two
            times. The message names the file and the reason.
        UserError: the backend is unknown or not installed, or a shard is missing.
    """
    with open_video(media, start_seconds, end_seconds) as source:
        return source.read(
            choose(source.range.count, source.range.seconds), size, keep_aspect=keep_aspect, backend=backend
        )


def check_video(media: Media, frames: int | None = None) -> int:
    """Check that a video or image can be decoded, without the cached index.

    Args:
        media: the file, or a member of a shard.
        frames: how many evenly spread frames to decode. If None, decode all, with every check that decoders offer.

    Returns:
        the number of frames in the file.

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
                strict.decode_all(media, clip.index)
        else:
            clip.read([place * count // frames for place in range(frames)], _SMALL)
        if frames is None and clip.index is not None and clip.index.container == _GIF:
            image.check_gif(media)
        return count


@dataclass(frozen=True, slots=True, eq=False)
class OpenVideo:
    """An open file with its index. Close it before a fork."""

    media: Media
    range: FrameRange
    index: VideoIndex | None
    """None for a picture."""
    reader: PacketReader | None
    picture: Picture | None = None

    @property
    def facts(self) -> FileFacts:
        """What is known before frames are decoded."""
        seekable = self.index is None or self.index.by_time
        return FileFacts(self._listed.metadata, float(self._listed.timestamps_seconds[0]), seekable)

    def read(
        self, chosen: Sequence[int], size: int | None = None, *, keep_aspect: bool = False, backend: str = "auto"
    ) -> DecodedFrames:
        """Decode frames, counted from the first of the range; see :func:`decode_frames`."""
        if backend not in BACKENDS:
            raise UserError(f"The backend is {backend!r}; allowed: {', '.join(BACKENDS)}.")
        outside = [index for index in chosen if not 0 <= index < self.range.count]
        if outside or not chosen:
            raise ValueError(f"The indices are {list(chosen)}; {self.media} has {self.range.count} frames.")
        wanted = np.asarray(chosen) + self.range.first
        ascending, places = np.unique(wanted, return_inverse=True)
        frames, used = self._decode(ascending.tolist(), size, keep_aspect, backend)
        return DecodedFrames(
            frames=frames[places],
            timestamps_seconds=self._listed.timestamps_seconds[wanted],
            indices=tuple(wanted.tolist()),
            metadata=self._listed.metadata,
            backend=used,
        )

    @property
    def _listed(self) -> VideoIndex | Picture:
        listed = self.picture or self.index
        assert listed is not None
        return listed

    def _decode(self, indices: list[int], size: int | None, keep_aspect: bool, backend: str) -> tuple[np.ndarray, str]:
        """Decode ascending indices; return the frames and the name of the decoder."""
        height, width = _sides(self._listed.metadata, size, keep_aspect)
        if self.picture is not None:
            return image.decode(self.picture, indices, height, width), "pillow"
        assert self.index is not None
        assert self.reader is not None
        with _named(self.media):
            return _decode(self.reader, self.index, indices, height, width, backend)


@contextmanager
def open_video(
    media: Media, start_seconds: float | None = None, end_seconds: float | None = None, *, cached: bool = True
) -> Iterator[OpenVideo]:
    """Open a file, to decode frames later; see :func:`decode_frames`.

    Args:
        media: as there.
        start_seconds: as there.
        end_seconds: as there.
        cached: whether to use :mod:`evlvideo.data.video.index_cache`.
    """
    if isinstance(media, Path):
        check_file(media)
    if image.is_picture(media):
        picture = image.read_picture(media)
        # An image is shown at any time.
        times = (None, None) if picture.still is not None else (start_seconds, end_seconds)
        yield OpenVideo(media, _range(media, picture, *times), None, None, picture)
        return
    with ExitStack() as stack:
        with _named(media):
            reader = stack.enter_context(PacketReader(media))
            index = cached_index(reader) if cached else read_index(reader)
        yield OpenVideo(media, _range(media, index, start_seconds, end_seconds), index, reader)


@contextmanager
def _named(media: Media) -> Iterator[None]:
    """Convert errors of decoders to a :class:`DecodeError` that names the file."""
    try:
        yield
    except _REFUSALS as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DecodeError(f"{media} cannot be decoded: {reason}. Is it a video, and whole?") from error


def _range(
    media: Media, index: VideoIndex | Picture, start_seconds: float | None, end_seconds: float | None
) -> FrameRange:
    """Find the frames in a half-open range of times."""
    seconds = index.timestamps_seconds
    until = seconds[0] + index.metadata.duration_seconds
    first = 0 if start_seconds is None else int(np.searchsorted(seconds, start_seconds))
    end = len(seconds) if end_seconds is None else int(np.searchsorted(seconds, end_seconds))
    part_end = until if end_seconds is None else min(end_seconds, until)
    if first >= end > 0 and start_seconds is not None and start_seconds < part_end:
        first, end = first - 1, first
    if end <= first:
        raise DecodeError(
            f"{media} shows no frame from {start_seconds or 0:g} s to "
            f"{'its end' if end_seconds is None else f'{end_seconds:g} s'}; it lasts from {seconds[0]:.2f} s to "
            f"{until:.2f} s."
        )
    return FrameRange(first, end - first, seconds[first:end])


def _decode(
    reader: PacketReader, index: VideoIndex, indices: list[int], height: int, width: int, backend: str
) -> tuple[np.ndarray, str]:
    """Decode ascending indices; return the frames and the name of the backend."""
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
    """Return the height and width to decode to."""
    if size is None:
        return metadata.height, metadata.width
    if not keep_aspect:
        return size, size
    shorter = min(metadata.height, metadata.width)
    return max(size, round(metadata.height * size / shorter)), max(size, round(metadata.width * size / shorter))

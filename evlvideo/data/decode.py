"""Frames of a video file, by index.

decord decodes what it decodes rightly. PyAV, which reads more, finds out what is in the file, and serves where decord
is not installed, has no decoder, decodes wrongly, or fails. Both get one thread, since data loaders run many of them.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from evlvideo.errors import UserError

Choose = Callable[[int], list[int]]

_NOT_FOR_DECORD = {"hevc", "av1"}
"""Codecs left to PyAV: decord 0.6 gives wrong frames of HEVC with open groups of pictures, and cannot open AV1."""


class DecodeError(UserError):
    """A video file that gives no frames; the message names the file and the reason."""

    def __init__(self, message: str) -> None:
        # A data loader raises its worker's error anew, with the worker's traceback around the sentence.
        super().__init__(message.rpartition("DecodeError: ")[2].strip())


def decode_frames(path: Path, choose: Choose, size: int | None = None) -> np.ndarray:
    """Decode chosen frames of a video file.

    Frames are resized straight to a square, with bilinear interpolation by the decoder's own scaler, as published for
    EVLGen-video; a rotation stored in the file is applied. Of several video streams FFmpeg's best is taken.

    Args:
        path: a video file.
        choose: from the number of frames in the file to the indices wanted, from 0, in any order and with repetitions.
            It may be called again where a decoder fails or has miscounted, and should then choose alike.
        size: side of the square in pixels; `None` keeps the file's height and width.

    Returns:
        RGB values, uint8 of shape (frames, height, width, 3).

    Raises:
        DecodeError: the file is missing, empty, not a video, without frames, or broken before a wanted frame.
    """
    try:
        _check_file(path)
        codec, count = _probe(path)
        frames = None
        if codec not in _NOT_FOR_DECORD and _has_decord():
            frames = _with_decord(path, choose, size, count)
        if frames is None:
            frames = _with_pyav(path, choose, size, count)
    except (av.FFmpegError, OSError) as error:
        raise DecodeError(f"{path} cannot be decoded: {error.strerror}. Is it a video, and whole?") from error
    if frames is None:
        raise DecodeError(f"{path} cannot be decoded: it holds no frames. Is it a video, and whole?")
    return frames


def _check_file(path: Path) -> None:
    if not path.exists():
        raise DecodeError(f"The video {path} does not exist.")
    if not path.is_file():
        raise DecodeError(f"The video {path} is not a file; name a video file such as clip.mp4.")
    if path.stat().st_size == 0:
        raise DecodeError(f"The video {path} is an empty file; copy or download it again.")


def _has_decord() -> bool:
    return importlib.util.find_spec("decord") is not None


def _probe(path: Path) -> tuple[str, int]:
    """Read the codec's name and the number of frames shown, which an edit list makes fewer than those stored."""
    with _open(path) as container:
        stream = _stream(path, container)
        count = sum(1 for packet in container.demux(stream) if packet.size and not packet.is_discard)
        return str(stream.codec_context.codec.canonical_name), count


def _open(path: Path) -> InputContainer:
    # Absolute, because FFmpeg takes what stands before a colon in a relative name for a protocol.
    return av.open(str(path.absolute()))


def _stream(path: Path, container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise DecodeError(f"{path} holds no video stream; name a video file.")
    stream.codec_context.thread_count = 1
    return stream


def _with_decord(path: Path, choose: Choose, size: int | None, count: int) -> np.ndarray | None:
    """Decode with decord; `None` where it fails, or repeats the last frame for those that are not shown."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    side = size or -1  # decord's word for the file's own
    try:
        # One reader a call: a reader that lives through a fork hangs.
        reader = decord.VideoReader(str(path.absolute()), ctx=decord.cpu(0), num_threads=1, width=side, height=side)
        if not count or len(reader) != count:
            return None
        frames: np.ndarray = reader.get_batch(choose(count)).asnumpy()
    except (decord.DECORDError, RuntimeError):
        return None
    return frames


def _with_pyav(path: Path, choose: Choose, size: int | None, count: int) -> np.ndarray | None:
    """Decode with PyAV; `None` where there are no frames."""
    frames = None
    # Some packets show nothing (VP8's alternate references): then the first pass finds the number of frames.
    while frames is None and count:
        frames, count = _decode_until(path, choose(count), size)
    return frames


def _decode_until(path: Path, indices: list[int], size: int | None) -> tuple[np.ndarray | None, int]:
    """Decode from the start to the last wanted frame.

    Returns:
        The wanted frames, or `None` where the file ends before the last; and the number of frames decoded.
    """
    frames: dict[int, np.ndarray] = {}
    last = max(indices)
    decoded = 0
    with _open(path) as container:
        for frame in container.decode(_stream(path, container)):
            if decoded in indices:
                frames[decoded] = _rgb(frame, size)
            decoded += 1
            if decoded > last:
                return np.stack([frames[index] for index in indices]), decoded
    return None, decoded


def _rgb(frame: av.VideoFrame, size: int | None) -> np.ndarray:
    pixels = frame.to_ndarray(format="rgb24", width=size, height=size, interpolation="BILINEAR")
    return np.rot90(pixels, frame.rotation // 90)

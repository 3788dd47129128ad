"""Decode with decord, the decoder of most published video code, if its frames are right; refuse otherwise.

On open groups of pictures, fields, and false keyframes or times, decord returns wrong frames without an error. The
file's index, made with PyAV, records all of them. Such files are refused before decoding, and so are untested codecs
and containers, and files in which decord counts another number of frames.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.index import VideoIndex

_RIGHT = {"h264", "vp8", "vp9", "mjpeg"}
_CONTAINERS = ("mov", "matroska", "flv")
"""Codecs and containers that decord 0.6 decodes correctly in our tests, with closed groups of pictures."""


def decode(path: Path, index: VideoIndex, indices: Sequence[int], height: int, width: int) -> np.ndarray:
    """Decode frames, as :func:`evlvideo.data.video.backends.pyav.decode` does.

    Raises:
        DecodeError: decord fails, or its frames would be wrong on this file.
        ImportError: decord is not installed.
    """
    import decord

    metadata = index.metadata
    risky = index.open_groups or index.false_keyframes or index.false_times or not index.by_packet
    if metadata.codec not in _RIGHT or risky or not any(name in index.container for name in _CONTAINERS):
        groups = " with open groups of pictures, fields, or false keyframes or times" if risky else ""
        raise DecodeError(
            f"{path} is {metadata.codec}{groups} in {index.container}, of which decord gives wrong frames or none; "
            "use the backend pyav."
        )
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(path.absolute()), ctx=decord.cpu(0), num_threads=1, width=width, height=height)
        if len(reader) != len(index.times):
            # decord replaces frames that an edit list hides with the last frame.
            raise DecodeError(
                f"{path} has {len(index.times)} frames, decord counts {len(reader)}; use the backend pyav."
            )
        frames: np.ndarray = reader.get_batch(list(indices)).asnumpy()
    except (decord.DECORDError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DecodeError(f"{path} cannot be decoded by decord: {reason}.") from error
    return frames

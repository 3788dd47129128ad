"""Decode with torchcodec, if it and FFmpeg's libraries are installed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.index import VideoIndex


def decode(path: Path, index: VideoIndex, indices: Sequence[int], height: int, width: int) -> np.ndarray:
    """Decode frames, as :func:`evlvideo.data.video.backends.pyav.decode` does.

    Raises:
        DecodeError: torchcodec fails, counts another number of frames, or would return wrong frames.
        ImportError: torchcodec is not installed.
    """
    try:
        from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found, attr-defined, unused-ignore]
        from torchcodec.transforms import Resize  # type: ignore[import-not-found, attr-defined, unused-ignore]
    except (RuntimeError, OSError) as error:
        raise ImportError(f"torchcodec finds no FFmpeg libraries: {str(error).strip().splitlines()[0]}") from error

    if index.false_keyframes or index.false_times:
        what = "keyframes" if index.false_keyframes else "times"
        raise DecodeError(f"{path} has false {what}, with which torchcodec gives wrong frames; use the backend pyav.")
    try:
        # Its other mode, `approximate`, is wrong on HEVC with open groups of pictures.
        decoder = VideoDecoder(
            str(path.absolute()),
            stream_index=index.stream,
            dimension_order="NHWC",
            num_ffmpeg_threads=1,
            seek_mode="exact",
            transforms=[Resize((height, width))],
        )
        if len(decoder) != len(index.times):
            raise DecodeError(
                f"{path} has {len(index.times)} frames, torchcodec counts {len(decoder)}; use the backend pyav."
            )
        frames: np.ndarray = decoder.get_frames_at(list(indices)).data.numpy()
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DecodeError(f"{path} cannot be decoded by torchcodec: {reason}.") from error
    return frames

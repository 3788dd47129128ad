"""Open video files, the one place that does: local, of a listed format, and without following references."""

from pathlib import Path

import av
from av.container import InputContainer

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media

FORMATS = (
    *("asf", "avi", "flv", "gif", "matroska", "mov", "mpeg", "mpegts", "mxf", "nut", "ogg", "rm", "wtv"),
    *("dhav", "dv", "gxf", "ivf", "nuv", "ty", "yuv4mpegpipe"),
    *("cavsvideo", "dirac", "h261", "h263", "h264", "hevc", "m4v", "mjpeg", "mpegvideo", "obu", "vc1", "vvc"),
)
"""FFmpeg's names of the formats that are read: containers, those of recorders, and bare streams.

Each holds its own frames. FFmpeg tells a format by content, whatever the file's name, and knows others that are lists
of further files or addresses: HLS, DASH, concat, SDP, IMF, image sequences, VobSub.
"""


def open_container(media: Media) -> InputContainer:
    """Open a video file for reading.

    No other file is opened, and no network is reached, whatever the file contains: formats that refer to others are
    refused before they are read, and MOV's references to other files stay unused, as FFmpeg does by default.

    Args:
        media: a file, or a member of a shard.

    Raises:
        DecodeError: its format is not one of `FORMATS`.
        av.FFmpegError: it is no video, or broken.
    """
    # Absolute, because FFmpeg takes the part of a relative name before a colon for a protocol.
    file, protocols = (str(media.absolute()), "file") if isinstance(media, Path) else (media.open(), "none")
    options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": protocols}
    try:
        container: InputContainer = av.open(file, mode="r", container_options=options, metadata_errors="ignore")
    except av.error.ArgumentError as error:
        raise DecodeError(
            f"{media} cannot be decoded: it is a playlist, which names other files, or of a rare format; name a file "
            "that holds its own frames, such as MP4, WebM, MKV, AVI or MPEG-TS."
        ) from error
    return container

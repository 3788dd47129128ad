"""Open video files, the one place that does: local, of a listed format, and without following references."""

from pathlib import Path

import av
from av.container import InputContainer

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media

FORMATS = {
    "asf": (".asf", ".wmv"),
    "avi": (".avi", ".divx"),
    "flv": (".flv",),
    "gif": (".gif",),
    "matroska": (".mk3d", ".mkv", ".webm"),
    "mov": (".3g2", ".3gp", ".f4v", ".m4v", ".mov", ".mp4", ".qt"),
    "mpeg": (".mpe", ".mpeg", ".mpg", ".vob"),
    "mpegts": (".m2t", ".m2ts", ".mts", ".ts"),
    "mxf": (".mxf",),
    "nut": (".nut",),
    "ogg": (".ogm", ".ogv"),
    "rm": (".rm", ".rmvb"),
    "wtv": (".wtv",),
    "yuv4mpegpipe": (".y4m",),
    "dhav": (".dav",),
    "dv": (".dv",),
    "gxf": (".gxf",),
    "ivf": (".ivf",),
    "nuv": (".nuv",),
    "ty": (".ty",),
    "cavsvideo": (".cavs",),
    "dirac": (".drc",),
    "h261": (".h261",),
    "h263": (".h263",),
    "h264": (".264", ".h264"),
    "hevc": (".265", ".h265", ".hevc"),
    "m4v": (),
    "mjpeg": (".mjpeg", ".mjpg"),
    "mpegvideo": (".m1v", ".m2v", ".mpv"),
    "obu": (".obu",),
    "vc1": (".vc1",),
    "vvc": (".266", ".vvc"),
}
"""FFmpeg's names of the formats that are read, with the suffixes of their files: containers, and bare streams.

Each holds its own frames. FFmpeg tells a format by content, whatever the file's name, and knows others that are lists
of further files or addresses: HLS, DASH, concat, SDP, IMF, image sequences, VobSub.
"""

VIDEO_SUFFIXES = {suffix for suffixes in FORMATS.values() for suffix in suffixes}
"""Suffixes of videos, in lower case."""


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

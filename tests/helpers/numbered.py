"""Clips whose frames carry their own number, in many codecs, containers and with many peculiarities."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

WIDTH, HEIGHT = 96, 64
_BITS = 12
_COLUMNS = 4
_BLOCK_HEIGHT, _BLOCK_WIDTH = 20, 24
"""The number stands in a grid of 3 by 4 blocks: white is one. A strip below them moves, so that frames differ."""


def picture(number: int) -> np.ndarray:
    pixels = np.full((HEIGHT, WIDTH, 3), 16, np.uint8)
    for bit in range(_BITS):
        row, column = divmod(bit, _COLUMNS)
        if number >> bit & 1:
            top, left = row * _BLOCK_HEIGHT, column * _BLOCK_WIDTH
            pixels[top : top + _BLOCK_HEIGHT, left : left + _BLOCK_WIDTH] = 235
    pixels[3 * _BLOCK_HEIGHT :, (7 * number) % WIDTH :][:, :8] = (200, 80, 40)
    return pixels


def number_of(frame: np.ndarray) -> int:
    """Read the number of an upright frame (H, W, 3), of any size."""
    height, width = frame.shape[:2]
    number = 0
    for bit in range(_BITS):
        row, column = divmod(bit, _COLUMNS)
        y = round((row + 0.5) * _BLOCK_HEIGHT * height / HEIGHT)
        x = round((column + 0.5) * _BLOCK_WIDTH * width / WIDTH)
        number |= int(frame[y - 1 : y + 2, x - 1 : x + 2].mean() > 125) << bit
    return number


def numbers_of(frames: np.ndarray) -> list[int]:
    return [number_of(frame) for frame in frames]


def render(
    path: Path,
    frames: int,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    *,
    pix_fmt: str = "yuv420p",
    times: Sequence[int] | None = None,
    rate: int = 25,
    rotation: int = 0,
    container: dict[str, str] | None = None,
) -> Path:
    """Write a clip; `times` are those of the frames in milliseconds, where they are not evenly apart."""
    if not can_encode(codec):
        pytest.skip(f"PyAV here has no encoder {codec}")
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = (HEIGHT, WIDTH) if rotation % 180 else (WIDTH, HEIGHT)
        stream.pix_fmt = pix_fmt
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(frames):
            stored = np.ascontiguousarray(np.rot90(picture(number), -(rotation // 90)))
            frame = av.VideoFrame.from_ndarray(stored, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def can_encode(codec: str) -> bool:
    try:
        av.codec.Codec(codec, "w")
    except ValueError:
        return False
    return True


def cut_without_encoding(source: Path, path: Path, hidden: int, rate: int) -> Path:
    """Hide the first frames by an edit list, as programs do that cut a clip out of a longer video."""
    options = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    with av.open(str(source)) as whole, av.open(str(path), "w", options=options) as cut:
        stream = cut.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.size and packet.pts is not None and packet.dts is not None:
                shift = round(hidden / rate / packet.time_base)
                packet.pts -= shift
                packet.dts -= shift
                packet.stream = stream
                cut.mux(packet)
    return path


def without_first_packets(source: Path, path: Path, packets: int) -> Path:
    """Leave packets out, so that the stream begins in the middle of a group of pictures."""
    with av.open(str(source)) as whole, av.open(str(path), "w") as cut:
        stream = cut.add_stream_from_template(whole.streams.video[0])
        for place, packet in enumerate(whole.demux(video=0)):
            if packet.size and place >= packets:
                packet.stream = stream
                cut.mux(packet)
    return path

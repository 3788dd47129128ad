"""PNG files of depths that Pillow does not write."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def write_png(path: Path, values: np.ndarray, color_type: int, transparent: Sequence[int] = ()) -> Path:
    """Write uint8 or uint16 `(height, width, channels)`; `transparent` is the color that stands for nothing."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(values.dtype.newbyteorder(">")).tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 8 * values.dtype.itemsize, color_type, 0, 0, 0)
    key = struct.pack(f">{len(transparent)}H", *transparent)
    chunks = [(b"IHDR", head), *([(b"tRNS", key)] if key else []), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks))
    return path


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

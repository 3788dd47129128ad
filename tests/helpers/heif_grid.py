"""Pictures in tiles, as phones write them; each tile is of one gray."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TILE = 64
KINDS = {"heic": ("libx265", b"hvc1", b"hvcC"), "avif": ("libsvtav1", b"av01", b"av1C")}
"""By brand: encoder, and types of an item and of its configuration."""


def write_grid(
    path: Path,
    grays: Sequence[Sequence[int]],
    *,
    brand: str = "heic",
    size: tuple[int, int] | None = None,
    properties: Sequence[tuple[bytes, int]] = (),
) -> Path:
    """Write a picture.

    Args:
        path: where.
        grays: a row of tiles each.
        brand: of `KINDS`.
        size: width and height; those of the tiles together, or less.
        properties: transforms of the picture: kind and value.
    """
    encoder, item_type, configuration_type = KINDS[brand]
    tiles = [_tile(path, encoder, gray) for row in grays for gray in row]
    count, grid = len(tiles), len(tiles) + 1
    width, height = size or (TILE * len(grays[0]), TILE * len(grays))
    items = [_full(b"infe", 2, 1, struct.pack(">HH", item, 0), item_type, b"\0") for item in range(1, grid)]
    items.append(_full(b"infe", 2, 0, struct.pack(">HH", grid, 0), b"grid\0"))
    known = [
        _box(configuration_type, tiles[0][0]),
        _full(b"ispe", 0, 0, struct.pack(">II", TILE, TILE)),
        _full(b"ispe", 0, 0, struct.pack(">II", width, height)),
        _full(b"pixi", 0, 0, bytes([3, 8, 8, 8])),
        *(_box(kind, bytes([value])) for kind, value in properties),
    ]
    of_tile, of_grid = bytes([0x81, 2, 4]), bytes([3, 4, *(0x80 | 5 + place for place in range(len(properties)))])
    associations = b"".join(struct.pack(">HB", item, len(of_tile)) + of_tile for item in range(1, grid))
    associations += struct.pack(">HB", grid, len(of_grid)) + of_grid
    described = [
        _full(b"hdlr", 0, 0, b"\0\0\0\0pict", bytes(13)),
        _full(b"pitm", 0, 0, struct.pack(">H", grid)),
        _full(b"iinf", 0, 0, struct.pack(">H", grid), *items),
        _full(b"iref", 0, 0, _box(b"dimg", struct.pack(f">HH{count}H", grid, count, *range(1, grid)))),
        _box(b"iprp", _box(b"ipco", *known), _full(b"ipma", 0, 0, struct.pack(">I", grid), associations)),
        _box(b"idat", struct.pack(">BBBBHH", 0, 0, len(grays) - 1, len(grays[0]) - 1, width, height)),
    ]
    start = _box(b"ftyp", brand.encode(), bytes(4), b"mif1", brand.encode(), b"miaf")
    content = [data for _, data in tiles]
    ahead = len(start) + len(_meta(described, [0] * count, content)) + 8
    offsets = [ahead + sum(map(len, content[:place])) for place in range(count)]
    path.write_bytes(start + _meta(described, offsets, content) + _box(b"mdat", *content))
    return path


def _meta(described: Sequence[bytes], offsets: Sequence[int], content: Sequence[bytes]) -> bytes:
    places = [
        struct.pack(">HHHHII", place + 1, 0, 0, 1, offset, len(data))
        for place, (offset, data) in enumerate(zip(offsets, content, strict=True))
    ]
    places.append(struct.pack(">HHHHII", len(content) + 1, 1, 0, 1, 0, 8))
    located = _full(b"iloc", 1, 0, bytes([0x44, 0x00]), struct.pack(">H", len(places)), *places)
    return _full(b"meta", 0, 0, *described[:2], located, *described[2:])


def _tile(path: Path, encoder: str, gray: int) -> tuple[bytes, bytes]:
    """Encode a tile; return its configuration and its picture."""
    temporary = path.with_name("tile.mp4")
    options = {"x265-params": "log-level=none:keyint=1:qp=10"} if encoder == "libx265" else {"crf": "10", "preset": "8"}
    with av.open(str(temporary), "w") as out:
        stream = out.add_stream(encoder, rate=25, options=options)
        stream.width = stream.height = TILE
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((TILE, TILE, 3), gray, np.uint8), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode())
    with av.open(str(temporary)) as file:
        data = b"".join(bytes(packet) for packet in file.demux(video=0))
        configuration = bytes(file.streams.video[0].codec_context.extradata or b"")
    temporary.unlink()
    return configuration, data


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I", 8 + len(content)) + kind + content


def _full(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)

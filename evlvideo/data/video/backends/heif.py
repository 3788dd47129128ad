"""Read HEIC pictures: FFmpeg decodes their tiles, which are put together here.

Phones store a picture as a grid of tiles, each a stream to FFmpeg. PyAV does not tell the grid, which is read here from
the file's `meta` box (ISO 14496-12 for boxes, 23008-12 for what they mean).
"""

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from evlvideo.data.media.containers import open_container
from evlvideo.data.media.media import Media
from evlvideo.data.media.pixels import on_white

_MOST_META_BYTES = 1 << 24
_TURNED, _MIRRORED = b"irot", b"imir"
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")


@dataclass(slots=True)
class _Meta:
    """Items of a file, by number."""

    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)
    references: list[tuple[bytes, int, list[int]]] = field(default_factory=list)
    """Kind, item, and the items that it refers to."""
    properties: dict[int, list[tuple[bytes, bytes]]] = field(default_factory=dict)
    places: dict[int, tuple[bool, int, int]] = field(default_factory=dict)
    """Whether an item lies in `data` and not in the file, its first byte, and its bytes."""
    data: bytes = b""

    def derived_from(self, kind: bytes, item: int) -> list[int]:
        """List the items that an item refers to."""
        return [to for name, origin, all_to in self.references if (name, origin) == (kind, item) for to in all_to]

    def alpha_of(self, item: int) -> int | None:
        """Return the item that holds the transparency of an item, if any."""
        for name, origin, to in self.references:
            if name == b"auxl" and item in to and any(value[4:].startswith(_ALPHA) for _, value in self._of(origin)):
                return origin
        return None

    def transforms(self, item: int) -> list[tuple[bytes, int]]:
        """List an item's rotations and reflections in their order."""
        return [(name, value[0]) for name, value in self._of(item) if name in (_TURNED, _MIRRORED)]

    def _of(self, item: int) -> Sequence[tuple[bytes, bytes]]:
        return self.properties.get(item, ())


def read_heif(media: Media) -> Image.Image:
    """Read a HEIC picture upright, with what is transparent on white.

    Returns:
        the image in RGB.

    Raises:
        ValueError, struct.error: it is broken, or put together in another way than by tiles.
        av.FFmpegError: a tile cannot be decoded.
        Image.DecompressionBombError: it has more pixels than Pillow allows.
    """
    with media.open("rb") as file:
        meta = _read_meta(file)
        grids = {item: _grid_of(meta, item, file) for item, kind in meta.kinds.items() if kind == b"grid"}
    alpha = meta.alpha_of(meta.primary)
    tiles = _decode(media, [tile for item in (meta.primary, alpha) if item for tile in _tiles_of(meta, item)])
    pixels = _joined(meta, meta.primary, grids, tiles)
    if alpha is not None:
        opacity = _joined(meta, alpha, grids, tiles)[..., :1]
        pixels = on_white(np.concatenate([pixels, opacity], axis=-1))
    for kind, value in meta.transforms(meta.primary):
        # Counter-clockwise; along the first axis, top and bottom change places.
        pixels = np.rot90(pixels, value & 3) if kind == _TURNED else np.flip(pixels, axis=value & 1)
    return Image.fromarray(np.ascontiguousarray(pixels))


def _tiles_of(meta: _Meta, item: int) -> list[int]:
    return meta.derived_from(b"dimg", item) if meta.kinds.get(item) == b"grid" else [item]


def _decode(media: Media, items: Sequence[int]) -> dict[int, np.ndarray]:
    """Decode coded items to RGB, each uint8 `(height, width, 3)`."""
    found: dict[int, np.ndarray] = {}
    pixels = 0
    with open_container(media) as container:
        streams = [stream for stream in container.streams.video if stream.id in items]
        for stream in streams:
            stream.codec_context.thread_count = 1
        for packet in container.demux(streams):
            for frame in packet.decode():
                assert isinstance(frame, VideoFrame)
                pixels += frame.width * frame.height
                _refuse_bomb(pixels)
                found[packet.stream.id] = frame.reformat(format="rgb24", threads=1).to_ndarray()
    missing = [item for item in items if item not in found]
    if missing:
        raise ValueError(f"its part {missing[0]} is missing or of a kind that is not read")
    return found


def _joined(
    meta: _Meta, item: int, grids: dict[int, tuple[int, int, int, int]], tiles: dict[int, np.ndarray]
) -> np.ndarray:
    """Put the tiles of an item together."""
    if item not in grids:
        return tiles[item]
    rows, columns, width, height = grids[item]
    parts = [tiles[number] for number in _tiles_of(meta, item)]
    tile_height, tile_width = parts[0].shape[:2] if parts else (0, 0)
    if len(parts) != rows * columns or height > rows * tile_height or width > columns * tile_width:
        raise ValueError(f"its {len(parts)} tiles do not fill {width}×{height} pixels in {rows}×{columns} tiles")
    joined = np.block([[[part] for part in parts[row * columns : (row + 1) * columns]] for row in range(rows)])
    return joined[:height, :width]


def _grid_of(meta: _Meta, item: int, file: BinaryIO) -> tuple[int, int, int, int]:
    """Read rows, columns, width and height of a grid."""
    inside, start, size = meta.places[item]
    if inside:
        content = meta.data[start : start + size]
    else:
        file.seek(start)
        content = file.read(min(size, 12))
    rows, columns, width, height = struct.unpack_from(">BBII" if content[1] & 1 else ">BBHH", content, 2)
    _refuse_bomb(width * height)
    return rows + 1, columns + 1, width, height


def _refuse_bomb(pixels: int) -> None:
    """Raise for as many pixels as Pillow does."""
    if Image.MAX_IMAGE_PIXELS is not None and pixels > 2 * Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"it has {pixels:,} pixels")


def _read_meta(file: BinaryIO) -> _Meta:
    while header := file.read(8):
        size, kind = struct.unpack(">I4s", header)
        if kind == b"meta":
            if size > _MOST_META_BYTES:
                raise ValueError(f"its list of parts has {size} bytes")
            return _parsed(file.read(size - 8)[4:])
        if size == 1:
            size = struct.unpack(">Q", file.read(8))[0] - 8
        if size < 8:
            break
        file.seek(size - 8, io.SEEK_CUR)
    raise ValueError("it has no list of parts")


def _parsed(content: bytes) -> _Meta:
    meta = _Meta()
    for kind, inside in _boxes(content):
        if kind == b"idat":
            meta.data = inside
        elif kind == b"iprp":
            parts = dict(_boxes(inside))
            meta.properties = _associated(_Fields(parts[b"ipma"]), list(_boxes(parts[b"ipco"])))
        elif kind == b"pitm":
            fields = _Fields(inside)
            meta.primary = fields.number(4 if fields.version else 2)
        elif kind == b"iinf":
            fields = _Fields(inside)
            fields.number(4 if fields.version else 2)
            meta.kinds = dict(_kind(_Fields(entry)) for _, entry in _boxes(fields.rest()))
        elif kind == b"iref":
            fields = _Fields(inside)
            wide = 4 if fields.version else 2
            meta.references = [(name, *_reference(io.BytesIO(entry), wide)) for name, entry in _boxes(fields.rest())]
        elif kind == b"iloc":
            meta.places = dict(_places(_Fields(inside)))
    return meta


class _Fields:
    """Big-endian numbers of a box with a version and flags."""

    def __init__(self, content: bytes) -> None:
        self._stream = io.BytesIO(content)
        self.version = self.number(1)
        self.flags = self.number(3)

    def number(self, size_bytes: int) -> int:
        return _number(self._stream, size_bytes)

    def rest(self) -> bytes:
        return self._stream.read()


def _number(stream: io.BytesIO, size_bytes: int) -> int:
    content = stream.read(size_bytes)
    if len(content) < size_bytes:
        raise ValueError("its list of parts is cut off")
    return int.from_bytes(content, "big")


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0
    while place + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, place)
        if not 8 <= size <= len(content) - place:
            raise ValueError("its list of parts is broken")
        yield kind, content[place + 8 : place + size]
        place += size


def _kind(fields: _Fields) -> tuple[int, bytes]:
    item = fields.number(4 if fields.version == 3 else 2)
    fields.number(2)
    return item, fields.rest()[:4]


def _reference(stream: io.BytesIO, wide: int) -> tuple[int, list[int]]:
    origin, count = _number(stream, wide), _number(stream, 2)
    return origin, [_number(stream, wide) for _ in range(count)]


def _associated(fields: _Fields, known: list[tuple[bytes, bytes]]) -> dict[int, list[tuple[bytes, bytes]]]:
    found = {}
    wide, mask = (2, 0x7FFF) if fields.flags & 1 else (1, 0x7F)
    for _ in range(fields.number(4)):
        item = fields.number(4 if fields.version else 2)
        numbers = [fields.number(wide) & mask for _ in range(fields.number(1))]
        found[item] = [known[number - 1] for number in numbers if 0 < number <= len(known)]
    return found


def _places(fields: _Fields) -> Iterator[tuple[int, tuple[bool, int, int]]]:
    sizes = fields.number(2)
    of_offset, of_length, of_base, of_index = (sizes >> shift & 15 for shift in (12, 8, 4, 0))
    wide = 4 if fields.version == 2 else 2
    for _ in range(fields.number(wide)):
        item = fields.number(wide)
        inside = fields.version > 0 and fields.number(2) & 15 == 1
        fields.number(2)
        start = fields.number(of_base)
        extents = []
        for _ in range(fields.number(2)):
            fields.number(of_index if fields.version else 0)
            extents.append((start + fields.number(of_offset), fields.number(of_length)))
        if extents:
            yield item, (inside, *extents[0])

"""Read what H.264 (ITU-T H.264) and AV1 (AV1 Bitstream & Decoding Process Specification) tell before decoding."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_PICTURES, _IDR, _SEQUENCE = range(1, 6), 5, 7
"""Types of units that hold coded pictures, that reset the decoder, and that describe a sequence (table 7-1)."""
_INTRA, _BIDIRECTIONAL = {2, 7}, {1, 6}
"""Types of slices that depend on no other picture, and on pictures shown before and after them (table 7-6)."""
_WITH_CHROMA_FORMAT = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}
"""Profiles whose sequences describe the chroma format (section 7.3.2.1.1)."""
_AV1_FRAMES = {3, 6}
"""Types of AV1 units that begin with the header of a frame (section 6.2.2)."""
_MOST_CYCLES = 255
"""Upper bound of the frames in a cycle of picture order (section 7.4.2.1.1)."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The first slice of a picture."""

    resets: bool
    """Whether it resets the decoder."""
    kind: int
    """Its type."""

    @property
    def whole(self) -> bool:
        """Whether the picture depends on no other. With periodic refresh, others are marked as keyframes too."""
        return self.resets or self.kind in _INTRA

    @property
    def bidirectional(self) -> bool:
        """Whether the picture may be shown before one that is stored before it."""
        return self.kind in _BIDIRECTIONAL


def length_bytes(extradata: bytes) -> int:
    """Return the size of each unit's length prefix; 0 if start codes separate units (ISO 14496-15)."""
    return (extradata[4] & 3) + 1 if len(extradata) > 4 and extradata[0] == 1 else 0


def first_slice(packet: bytes, length_bytes: int) -> Slice | None:
    """Read the first slice of a packet; return None if it holds no picture."""
    for start in _starts(packet, length_bytes):
        kind = packet[start] & 31
        if kind in _PICTURES and start + 3 < len(packet):
            bits = _Bits(packet[start + 1 : start + 9])
            bits.number()  # Index of the first macroblock.
            return Slice(kind == _IDR, bits.number())
    return None


def may_hold_fields(content: bytes, length_bytes: int) -> bool:
    """Tell whether a packet, or a stream's extradata, begins a sequence in which a picture may be a single field.

    Two such packets make one frame.
    """
    units = (content[start : start + 512] for start in _starts(content, length_bytes))
    return any(_is_interlaced(unit[1:]) for unit in units if unit and unit[0] & 31 == _SEQUENCE)


def sequences(extradata: bytes) -> bytes:
    """Return the part of a stream's extradata that describes sequences, as units with start codes."""
    if not length_bytes(extradata):
        return extradata
    units, place = [], 6
    for _ in range(extradata[5] & 31 if len(extradata) > 5 else 0):
        size = int.from_bytes(extradata[place : place + 2], "big")
        units.append(b"\0\0\1" + extradata[place + 2 : place + 2 + size])
        place += 2 + size
    return b"".join(units)


def shows_av1_frame(packet: bytes) -> bool:
    """Tell whether an AV1 packet shows a frame; some programs store hidden frames in packets of their own."""
    place = 0
    while place < len(packet):
        kind, extended, sized = packet[place] >> 3 & 15, packet[place] >> 2 & 1, packet[place] >> 1 & 1
        place += 1 + extended
        size, place = _leb128(packet, place) if sized else (len(packet) - place, place)
        # A header begins with whether it shows an earlier frame, two bits of type, and whether it shows its own.
        if kind in _AV1_FRAMES and packet[place : place + 1] and (packet[place] & 0x80 or packet[place] & 0x10):
            return True
        place += size
    return False


def _leb128(packet: bytes, place: int) -> tuple[int, int]:
    """Read a number (section 4.10.5); return it and the place behind it."""
    number = 0
    for count, byte in enumerate(packet[place : place + 8]):
        number |= (byte & 127) << 7 * count
        if byte < 128:
            return number, place + count + 1
    return len(packet), place


def _starts(packet: bytes, length_bytes: int) -> Iterator[int]:
    """Yield the place of each unit, after its length or start code."""
    if not length_bytes:
        yield from (code.end() for code in re.finditer(b"\0\0\1", packet))
        return
    place = 0
    while place + length_bytes < len(packet):
        yield place + length_bytes
        place += length_bytes + int.from_bytes(packet[place : place + length_bytes], "big")


def _is_interlaced(sequence: bytes) -> bool:
    """Tell whether a sequence has not only whole frames (section 7.3.2.1.1)."""
    profile = sequence[0] if sequence else 0
    bits = _Bits(sequence[3:].replace(b"\0\0\3", b"\0\0"))
    bits.number()  # Its index.
    if profile in _WITH_CHROMA_FORMAT:
        _pass_chroma_format(bits)
    bits.number()  # Size of frame numbers.
    order = bits.number()
    if order == 0:
        bits.number()
    elif order == 1:
        bits.take(1)
        bits.numbers(2)
        bits.numbers(min(bits.number(), _MOST_CYCLES))
    bits.number()  # Number of reference frames.
    bits.take(1)
    bits.numbers(2)  # Width and height.
    return not bits.take(1) and not bits.ended


def _pass_chroma_format(bits: "_Bits") -> None:
    chroma = bits.number()
    if chroma == 3:
        bits.take(1)
    bits.numbers(2)  # Bit depths.
    bits.take(1)
    if not bits.take(1):
        return
    for matrix in range(12 if chroma == 3 else 8):
        if bits.take(1):
            _pass_scaling_list(bits, 16 if matrix < 6 else 64)


def _pass_scaling_list(bits: "_Bits", size: int) -> None:
    """Pass over a scaling list, which ends early where the next scale is 0 (section 7.3.2.1.1.1)."""
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.number()
            following = (last + (code + 1 >> 1 if code & 1 else -(code >> 1))) % 256
        last = following or last


class _Bits:
    """Reads bits; beyond the end there are zeros."""

    def __init__(self, content: bytes) -> None:
        self._bits = "".join(f"{byte:08b}" for byte in content)
        self._place = 0

    @property
    def ended(self) -> bool:
        return self._place > len(self._bits)

    def take(self, count: int) -> int:
        value = int(self._bits[self._place : self._place + count] or "0", 2)
        self._place += count
        return value

    def number(self) -> int:
        """Read an Exp-Golomb number (section 9.1)."""
        one = self._bits.find("1", self._place)
        if one < 0:
            self._place = len(self._bits) + 1
            return 0
        zeros, self._place = one - self._place, one
        return self.take(zeros + 1) - 1

    def numbers(self, count: int) -> None:
        """Pass over numbers."""
        for _ in range(count):
            self.number()

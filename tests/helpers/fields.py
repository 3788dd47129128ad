"""H.264 in which frames are coded as two fields, written bit by bit (ITU-T H.264): every macroblock is raw."""

from fractions import Fraction
from pathlib import Path

import av

SIDE, GROUP = 64, 8
_BLOCKS = (SIDE // 16) ** 2


def luma(number: int) -> int:
    """Luma of a frame."""
    return 20 + 6 * number


def write_fields(path: Path, frames: int, *, mixed: bool = False, one_packet: bool = False) -> Path:
    """Write a clip.

    Args:
        path: the file; its suffix is the container's.
        frames: number of frames.
        mixed: code even frames whole.
        one_packet: store both fields of a frame in one packet.
    """
    raw = path.with_suffix(".h264")
    packets = [packet for number in range(frames) for packet in _packets(number, mixed, one_packet)]
    raw.write_bytes(b"".join(content for _, content in packets))
    with av.open(str(raw), format="h264") as source, av.open(str(path), "w") as file:
        stream = file.add_stream_from_template(source.streams.video[0])
        for time, content in packets:
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.pts, packet.dts = stream, Fraction(1, 50), time, time
            packet.duration = 1 if len(packets) == 2 * frames else 2
            packet.is_keyframe = time % (2 * GROUP) == 0
            file.mux(packet)
    raw.unlink()
    return path


def _packets(number: int, mixed: bool, one_packet: bool) -> list[tuple[int, bytes]]:
    """Return the packets of a frame, with their times in fields."""
    head = _unit(9, "000") + (b"" if number % GROUP else _sequence() + _parameters())
    if mixed and number % 2 == 0:
        return [(2 * number, head + _picture(number, None))]
    first, second = head + _picture(number, 0), _unit(9, "000") + _picture(number, 1)
    return [(2 * number, first + second)] if one_packet else [(2 * number, first), (2 * number + 1, second)]


def _sequence() -> bytes:
    # Profile, level, numbers, sizes, no frame-only coding.
    bits = f"{77:08b}{0:08b}{30:08b}" + "".join(map(_number, (0, 0, 0, 4, 1))) + "0"
    return _unit(7, bits + _number(SIDE // 16 - 1) + _number(SIDE // 32 - 1) + "00100")


def _parameters() -> bytes:
    return _unit(8, _number(0) * 2 + "00" + _number(0) * 3 + "000" + _number(0) * 3 + "100")


def _picture(number: int, field: int | None) -> bytes:
    """Code a field, 0 for the upper, or a whole frame."""
    place, whole = number % GROUP, field is None
    resets = place == 0 and not field
    bits = _number(0) + _number(7) + _number(0) + f"{place:04b}" + ("0" if whole else f"1{field}")
    bits += _number(number // GROUP % 2) if resets else ""
    bits += f"{2 * place + (field or 0):08b}" + ("00" if resets else "0") + _number(0) + _number(1)
    for _ in range(_BLOCKS if whole else _BLOCKS // 2):
        bits += _number(25)
        bits += "0" * (-len(bits) % 8) + f"{luma(number):08b}" * 256 + f"{128:08b}" * 128
    return _unit(5 if resets else 1, bits)


def _number(value: int) -> str:
    """Write an Exp-Golomb number."""
    return f"{value + 1:b}".zfill(2 * (value + 1).bit_length() - 1)


def _unit(kind: int, bits: str) -> bytes:
    """Write a unit with its start code, and without bytes that would look like one."""
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    content, zeros = bytearray(), 0
    for byte in int(bits, 2).to_bytes(len(bits) // 8, "big"):
        if zeros >= 2 and byte <= 3:
            content.append(3)
            zeros = 0
        content.append(byte)
        zeros = 0 if byte else zeros + 1
    return b"\0\0\0\1" + bytes([(0 if kind == 9 else 3) << 5 | kind]) + bytes(content)

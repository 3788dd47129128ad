"""Clips whose packets are stored anew, with other times or in other packets."""

from collections.abc import Callable, Iterable
from pathlib import Path

import av
from av.packet import Packet

Change = Callable[[int, "Packet[av.VideoStream]"], Iterable["Packet[av.VideoStream]"]]
"""From the number of a packet and the packet to those that are stored in its place."""


def remuxed(source: Path, path: Path, change: Change, options: dict[str, str] | None = None) -> Path:
    with av.open(str(source)) as whole, av.open(str(path), "w", options=options or {}) as changed:
        stream = changed.add_stream_from_template(whole.streams.video[0])
        for number, packet in enumerate(whole.demux(video=0)):
            for new in change(number, packet) if packet.size else ():
                new.stream = stream
                changed.mux(new)
    return path


def packet_like(
    packet: "Packet[av.VideoStream]", pts: int, dts: int, content: bytes | None = None
) -> "Packet[av.VideoStream]":
    new: Packet[av.VideoStream] = Packet(bytes(packet) if content is None else content)
    new.pts, new.dts, new.duration, new.time_base = pts, dts, packet.duration, packet.time_base
    new.is_keyframe = packet.is_keyframe
    return new


def shown_when_stored(number: int, packet: "Packet[av.VideoStream]") -> list["Packet[av.VideoStream]"]:
    """Give frames the times at which they are stored, as a dump of RTP or RTMP does."""
    return [packet_like(packet, number * (packet.duration or 0), number * (packet.duration or 0))]


def split_in_time(source: Path, path: Path, at: int, back: int) -> Path:
    """Store a transport stream whose clock is set back by `back` frames before packet `at`, and which is whole."""

    def part(first: int, end: int, shift: int) -> Change:
        def change(number: int, packet: "Packet[av.VideoStream]") -> list["Packet[av.VideoStream]"]:
            moved = (100 - shift) * (packet.duration or 0)
            keep = first <= number < end
            return [packet_like(packet, (packet.pts or 0) + moved, (packet.dts or 0) + moved)] if keep else []

        return change

    content = bytearray()
    for place, change in enumerate((part(0, at, 0), part(at, 1 << 20, back))):
        piece = path.with_name(f"{path.stem}-{place}.ts")
        content += remuxed(source, piece, change, {"mpegts_copyts": "1"}).read_bytes()
    path.write_bytes(_counted(content))
    return path


def _counted(stream: bytearray) -> bytes:
    """Let the counters of a transport stream go on, so that nothing seems lost (ISO 13818-1, 2.4.3.3)."""
    counters: dict[int, int] = {}
    for place in range(0, len(stream), 188):
        number = (stream[place + 1] & 31) << 8 | stream[place + 2]
        if stream[place + 3] & 0x10:
            counters[number] = (counters.get(number, -1) + 1) & 15
            stream[place + 3] = stream[place + 3] & 0xF0 | counters[number]
    return bytes(stream)

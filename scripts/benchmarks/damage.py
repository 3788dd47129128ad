"""Make holes in videos at random places, and count how many `evlvideo data check-videos` finds.

    python scripts/benchmarks/damage.py
    python scripts/benchmarks/damage.py --holes 400 --seed 1

A hole is 16, 300 or 3,000 bytes of stored frames that are zeros, random, or have flipped bits; the clips show moving
noise. Writes `docs/benchmarks/damage.json`: for each kind of file, how many holes change a frame, how many of these the
check finds, how many make decoding for training fail (`of_these_found_by_default`), and how many frames are wrong or
missing in files in which the check finds nothing.
"""

import argparse
import json
import os
import platform
import random
import tempfile
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.decode import check_video, decode_frames
from evlvideo.files import write_json
from evlvideo.results.provenance import git_commit

FRAMES, WIDTH, HEIGHT = 60, 256, 192
KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "h264.mp4": ("libx264", {"g": "50"}),
    "hevc.mp4": ("libx265", {"x265-params": "log-level=none:keyint=50"}),
    "vp9.webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "av1.mp4": ("libsvtav1", {"preset": "12", "g": "50"}),
    "mpeg4.avi": ("mpeg4", {"g": "50"}),
}
SIZES = (16, 300, 3000)
OUT = Path(__file__).parents[2] / "docs" / "benchmarks" / "damage.json"


def main() -> None:
    """Make the holes and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--holes", type=int, default=200, help="how many, over all kinds of files (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the holes (%(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="JSON file (%(default)s)")
    options = parser.parse_args()
    av.logging.set_level(None)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EVLVIDEO_CACHE"] = str(Path(folder) / "cache")
        each = options.holes // len(KINDS)
        found = {name: count_found(Path(folder) / name, each, options.seed) for name in KINDS}
    total = dict(sum((Counter(counts) for counts in found.values()), Counter()))
    versions = {"python": platform.python_version(), "av": av.__version__}
    report = {
        "seed": options.seed,
        "versions": versions,
        "commit": git_commit(),
        "frames": FRAMES,
        "kinds": found,
        "total": total,
    }
    write_json(options.out, report)
    print(json.dumps(report, indent=1))


def count_found(path: Path, holes: int, seed: int) -> dict[str, int]:
    """Damage copies of a clip, and count what is found."""
    render(path)
    whole, content = decoded(path), path.read_bytes()
    places = packets(path)
    counts: Counter[str] = Counter({"holes": holes})
    for number in range(holes):
        damaged = path.with_name(f"damaged-{path.name}")
        damaged.write_bytes(with_hole(content, places, random.Random(seed * 1_000_003 + number)))
        frames = decoded(damaged)
        wrong = sum(place >= len(frames) or differs(frames[place], frame) for place, frame in enumerate(whole))
        found = refuses(lambda: check_video(damaged))  # noqa: B023
        counts["that_change_a_frame"] += wrong > 0
        counts["of_these_found"] += wrong > 0 and found
        counts["of_these_found_by_default"] += wrong > 0 and refuses(
            lambda: decode_frames(damaged, lambda frames, seconds: range(frames), 32)  # noqa: B023
        )
        counts["found_without_a_wrong_frame"] += not wrong and found
        counts["wrong_frames_where_nothing_is_found"] += 0 if found else wrong
    return dict(counts)


def with_hole(content: bytes, places: list[tuple[int, int]], chance: random.Random) -> bytes:
    """Damage the bytes of stored frames."""
    data, size = bytearray(content), chance.choice(SIZES)
    first, length = chance.choice(places)
    start = first + chance.randrange(length)
    end = min(start + size, max(first + length for first, length in places))
    kind = chance.choice(["zeros", "random", "flips"])
    if kind == "zeros":
        data[start:end] = bytes(end - start)
    elif kind == "random":
        data[start:end] = chance.randbytes(end - start)
    else:
        for place in range(start, end, 37):
            data[place] ^= 0x10
    return bytes(data)


def packets(path: Path) -> list[tuple[int, int]]:
    """Return the place and length of every stored frame."""
    with av.open(str(path)) as file:
        return [(packet.pos or 0, packet.size) for packet in file.demux(video=0) if packet.size]


def decoded(path: Path) -> list[np.ndarray]:
    """Decode as many frames as FFmpeg gives by default."""
    frames = []
    try:
        with av.open(str(path)) as file:
            file.streams.video[0].codec_context.thread_count = 1
            frames.extend(frame.to_ndarray(format="gray") for frame in file.decode(video=0))
    except av.FFmpegError:
        pass
    return frames


def differs(one: np.ndarray, other: np.ndarray) -> bool:
    """Tell whether two pictures differ visibly."""
    return bool(np.abs(one.astype(int) - other).max() > 2)


def refuses(read: Any) -> bool:
    """Tell whether reading raises."""
    try:
        read()
    except DecodeError:
        return True
    return False


def render(path: Path) -> None:
    """Render noise that moves."""
    codec, options = KINDS[path.name]
    noise = np.random.default_rng(1).integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    picture = noise.repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.roll(picture, 3 * number, 1)), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


if __name__ == "__main__":
    main()

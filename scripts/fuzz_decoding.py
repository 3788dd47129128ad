"""Decode randomly damaged files, and count the outcomes.

    python scripts/fuzz_decoding.py --count 2000 --time-limit 10

Renders small videos in several codecs and containers. For each try, bytes of a file are changed, zeroed, left out or
doubled, or its end is cut off. A file may be decoded, be refused with a message that names it, take longer than the
limit, or crash the decoder's process. The exit status is 1 if this process waited much longer than the limit, or a
message does not name the file.
"""

import argparse
import json
import os
import random
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

import av
import numpy as np

from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.decode import BACKENDS
from evlvideo.data.video.guarded import decode_frames_guarded

FRAMES = 40
SOURCES = {
    "h264.mp4": ("libx264", {"bf": "3", "g": "12"}, {}),
    "h264-faststart.mp4": ("libx264", {"bf": "3", "g": "12"}, {"movflags": "faststart"}),
    "h264-fragments.mp4": ("libx264", {"bf": "3", "g": "12"}, {"movflags": "frag_keyframe+empty_moov"}),
    "h264.mkv": ("libx264", {"bf": "3", "g": "12"}, {}),
    "h264.ts": ("libx264", {"bf": "3", "g": "12"}, {}),
    "hevc.mp4": ("libx265", {"x265-params": "log-level=none:keyint=12:min-keyint=12"}, {}),
    "mpeg4.avi": ("mpeg4", {"bf": "2", "g": "12"}, {}),
    "mpeg4.mp4": ("mpeg4", {"bf": "2", "g": "12"}, {}),
    "vp9.webm": ("libvpx-vp9", {"g": "12", "deadline": "realtime", "cpu-used": "8"}, {}),
    "av1.mp4": ("libsvtav1", {"g": "12", "preset": "12"}, {}),
}
MARGIN_SECONDS = 5.0
"""Extra time beyond the limit, for ending and starting the decoder's process."""


def main() -> int:
    """Try the requested number of files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="files to try (%(default)s)")
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds per file (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the damage (%(default)s)")
    parser.add_argument("--backend", choices=BACKENDS, default="auto", help="decoder (%(default)s)")
    parser.add_argument("--keep", type=Path, help="directory for files that crash or take too long")
    options = parser.parse_args()
    av.logging.set_level(None)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EVLVIDEO_CACHE"] = str(Path(folder) / "cache")
        sources = [render(Path(folder) / name) for name in SOURCES]
        report = fuzz(sources, options)
    print(json.dumps(report, indent=1))
    return 0 if report["beyond_the_limit"] == 0 and report["without_a_name"] == 0 else 1


def fuzz(sources: list[Path], options: argparse.Namespace) -> dict[str, object]:
    """Damage, decode and count."""
    outcomes: dict[str, Counter[str]] = {source.name: Counter() for source in sources}
    reasons: Counter[str] = Counter()
    longest, beyond, nameless = 0.0, 0, 0
    for number in range(options.count):
        chance = random.Random(options.seed * 1_000_003 + number)
        source = sources[number % len(sources)]
        path = source.with_name(f"damaged-{source.name}")
        path.write_bytes(damaged(source.read_bytes(), chance))
        start = time.monotonic()
        outcome, reason = decode(path, chance, options)
        taken = time.monotonic() - start
        longest = max(longest, taken)
        beyond += taken > options.time_limit + MARGIN_SECONDS
        outcomes[source.name][outcome] += 1
        if outcome != "decoded":
            nameless += path.name not in reason
            reasons[re.sub(r"\d+(\.\d+)?", "N", reason.replace(str(path), "it"))[:100]] += 1
        if options.keep and outcome in ("timed out", "crashed"):
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{number}-{source.name}").write_bytes(path.read_bytes())
    return {
        "tried": options.count,
        "backend": options.backend,
        "outcomes": dict(sum(outcomes.values(), Counter())),
        "by_source": {name: dict(counts) for name, counts in outcomes.items()},
        "longest_seconds": round(longest, 2),
        "beyond_the_limit": beyond,
        "without_a_name": nameless,
        "reasons": dict(reasons.most_common(12)),
    }


def decode(path: Path, chance: random.Random, options: argparse.Namespace) -> tuple[str, str]:
    """Decode some frames, and return the outcome and its reason."""

    def choose(frames: int, seconds: np.ndarray) -> list[int]:
        return sorted(chance.randrange(frames) for _ in range(4))

    try:
        decode_frames_guarded(path, choose, 64, backend=options.backend, time_limit_seconds=options.time_limit)
    except DecodeError as error:
        reason = str(error)
        if "timed out after" in reason:
            return "timed out", reason
        return ("crashed" if "the decoder crashed" in reason or "the decoder ended" in reason else "refused"), reason
    return "decoded", ""


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Damage a file in one to three ways, half of the time near one of its ends, which hold the indexes."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        near = chance.choice([len(data), len(data), min(len(data), 1500)])
        place = chance.randrange(near) if chance.random() < 0.7 else len(data) - 1 - chance.randrange(near)
        length = chance.choice([1, 4, 64, 1024])
        kind = chance.choice(["flip", "flip", "zero", "cut", "leave out", "double", "noise"])
        if kind == "flip":
            for _ in range(chance.choice([1, 8, 64])):
                data[(place + chance.randrange(4096)) % len(data)] ^= 1 << chance.randrange(8)
        elif kind == "zero":
            data[place : place + length] = bytes(len(data[place : place + length]))
        elif kind == "noise":
            data[place : place + length] = chance.randbytes(len(data[place : place + length]))
        elif kind == "cut":
            del data[max(place, 1) :]
        elif kind == "leave out":
            del data[place : place + length]
        else:
            data[place:place] = data[place : place + length]
        if len(data) < 2:
            return bytes(data)
    return bytes(data)


def render(path: Path) -> Path:
    """Render a small moving clip."""
    codec, options, container = SOURCES[path.name]
    noise = np.random.default_rng(0).integers(0, 255, (96, 200, 3), np.uint8)
    with av.open(str(path), "w", options=container) as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(FRAMES):
            picture = np.ascontiguousarray(noise[number // 2 : number // 2 + 64, number : number + 96] // 2 + 40)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path


if __name__ == "__main__":
    raise SystemExit(main())

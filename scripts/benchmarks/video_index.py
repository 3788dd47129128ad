"""Measure what a cached video index saves: the same frames, indexing the file anew and with a cached index.

    python scripts/benchmarks/video_index.py

Renders clips in some codecs, and decodes four uniform frames of each, scaled to 224 × 224, both ways in turn. Records
milliseconds, bytes read from the file, which a network would have to carry, and bytes of the index. Writes
`docs/benchmarks/video_index.json`.
"""

import argparse
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np

from evlvideo.data.video.decode import open_video
from evlvideo.data.video.index_cache import entry_of
from evlvideo.data.video.sampling import uniform
from evlvideo.files import write_json
from evlvideo.results.provenance import git_commit

SIZE, COUNT, RATE = 224, 4, 30
CLIPS: dict[str, tuple[str, str, int, int, int, dict[str, str]]] = {
    "10 s of 320×240, H.264": ("libx264", "mp4", 320, 240, 10, {"preset": "veryfast"}),
    "10 s of 320×240, VP9": ("libvpx-vp9", "webm", 320, 240, 10, {"cpu-used": "8", "deadline": "realtime"}),
    "10 s of 320×240, DivX": ("mpeg4", "avi", 320, 240, 10, {"bf": "2"}),
    "60 s of 1920×1080, H.264": ("libx264", "mp4", 1920, 1080, 60, {"preset": "ultrafast", "tune": "zerolatency"}),
}
OUT = Path(__file__).parents[2] / "docs" / "benchmarks" / "video_index.json"


def main() -> None:
    """Measure every clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds, after a warm-up round (%(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="JSON file (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EVLVIDEO_CACHE"] = str(Path(folder) / "cache")
        clips = {name: measured(render(Path(folder), name), options.rounds) for name in CLIPS}
    machine = {"processors": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()}
    versions = {"python": platform.python_version(), "av": version("av")}
    report = {"machine": machine, "versions": versions, "commit": git_commit(), "frames": COUNT, "clips": clips}
    write_json(options.out, report)
    for name, found in clips.items():
        print(name, {key: value for key, value in found.items() if key != "milliseconds"})


def render(folder: Path, name: str) -> Path:
    """Render a clip of moving noise."""
    codec, suffix, width, height, seconds, options = CLIPS[name]
    path = folder / f"{codec}-{width}.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (height // 8 + 32, width // 8 + 32), np.uint8)
    picture = noise.repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = width * height * 4
        for number in range(seconds * RATE):
            frame = np.full((height * 3 // 2, width), 128, np.uint8)
            down, right = number % 256, 2 * number % 256
            frame[:height] = picture[down : down + height, right : right + width]
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="yuv420p")))
        file.mux(stream.encode())
    return path


def measured(path: Path, rounds: int) -> dict[str, Any]:
    """Measure milliseconds and bytes read, both ways."""
    ways: dict[str, Callable[[], None]] = {
        "read_anew": lambda: decode(path, cached=False),
        "kept": lambda: decode(path, cached=True),
    }
    milliseconds: dict[str, list[float]] = {way: [] for way in ways}
    read: dict[str, int] = {}
    for number in range(rounds + 1):
        for way in random.Random(number).sample(list(ways), 2):
            before, start = bytes_read(), time.process_time()
            ways[way]()
            if number:
                milliseconds[way].append(round(1000 * (time.process_time() - start), 2))
                read[way] = bytes_read() - before
    entry = entry_of(path)
    assert entry is not None
    pairs = zip(milliseconds["read_anew"], milliseconds["kept"], strict=True)
    return {
        "bytes": path.stat().st_size,
        "index_bytes": entry.stat().st_size,
        "milliseconds": milliseconds,
        "median_milliseconds": {way: round(statistics.median(taken), 1) for way, taken in milliseconds.items()},
        "bytes_read": read,
        "ratio": round(statistics.median(anew / kept for anew, kept in pairs), 3),
    }


def decode(path: Path, *, cached: bool) -> None:
    """Decode four frames of a clip."""
    with open_video(path, cached=cached) as clip:
        clip.read(uniform(clip.range.count, clip.range.seconds, COUNT), SIZE)


def bytes_read() -> int:
    """Return the bytes that this process has read so far; 0 if unknown."""
    try:
        return int(Path("/proc/self/io").read_text().splitlines()[0].split()[1])
    except OSError:
        return 0


if __name__ == "__main__":
    main()

"""Time decoding a clip with each backend and with other libraries, or compare their frames on given files.

    python scripts/benchmarks/decoding.py
    python scripts/benchmarks/decoding.py table FOLDER

The first renders a clip of 15 s at 320×240 and one of 60 s at 1920×1080 (H.264, x264's groups of pictures), and takes 4
and 8 uniform frames of them, scaled to 224×224, in every way, in a new order each round. Everything decodes with one
thread. It writes `docs/benchmarks/decoding.json`. The second prints a table of what each backend returns for the same
eight frames of each file in a folder.
"""

import argparse
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from evlvideo.data.video.decode import BACKENDS, decode_frames
from evlvideo.data.video.frames import DecodedFrames
from evlvideo.data.video.guarded import decode_frames_guarded
from evlvideo.data.video.sampling import uniform
from evlvideo.errors import UserError
from evlvideo.files import write_json
from evlvideo.results.provenance import git_commit

SIZE = 224
RATE = 30
CLIPS = {"15 s of 320×240": (320, 240, 15), "60 s of 1920×1080": (1920, 1080, 60)}
COUNTS = (4, 8)
OUT = Path(__file__).parents[2] / "docs" / "benchmarks" / "decoding.json"


def main() -> None:
    """Measure, or make the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=7, help="rounds for the longer clip, after a warm-up round (%(default)s)"
    )
    parser.add_argument("--out", type=Path, default=OUT, help="JSON file (%(default)s)")
    commands = parser.add_subparsers(dest="command")
    table = commands.add_parser("table", help="compare backends on the files of a folder")
    table.add_argument("folder", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.command == "table":
        print(comparison(options.folder))
        return
    with tempfile.TemporaryDirectory() as folder:
        # Indexes are cached here, so all rounds but the first find them, as all epochs but the first do.
        os.environ["EVLVIDEO_CACHE"] = str(Path(folder) / "cache")
        report = {**facts(), "clips": [speed(Path(folder), name, options.rounds) for name in CLIPS]}
    write_json(options.out, report)
    print("\n".join(summary(report)))


def facts() -> dict[str, Any]:
    """Return the machine, versions and commit."""
    versions = {"python": platform.python_version()}
    for name in ("av", "decord", "torchcodec", "pytorchvideo", "torch", "numpy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    machine = {"processors": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()}
    return {"machine": machine, "versions": versions, "commit": git_commit(), "size": SIZE, "threads": 1}


def speed(folder: Path, name: str, rounds: int) -> dict[str, Any]:
    """Measure the seconds of every way for one clip."""
    width, height, seconds = CLIPS[name]
    path = render(folder / f"{width}.mp4", width, height, seconds * RATE)
    # Short measurements are repeated more often, since other load on the machine disturbs them more.
    rounds *= max(1, 60 // seconds)
    by_count = {}
    for count in COUNTS:
        seconds_of = measure(path, ways(count), rounds)
        backends = {way: statistics.median(seconds_of[way]) for way in BACKENDS if way in seconds_of}
        fastest = min((way for way in backends if way != "auto"), key=lambda way: backends[way])
        by_count[str(count)] = {
            "ways": {way: described(taken) for way, taken in seconds_of.items()},
            "fastest_backend": fastest,
            # Ratios are within a round, since the machine's load changes between rounds.
            "auto_over_fastest_speed": paired(seconds_of[fastest], seconds_of["auto"]),
            "auto_over_published_speed": paired(seconds_of["published"], seconds_of["auto"]),
            "guarded_over_auto_time": paired(seconds_of["guarded"], seconds_of["auto"]),
        }
    return {"name": name, "megabytes": round(path.stat().st_size / 1e6, 2), "frames": by_count}


def ways(count: int) -> dict[str, Callable[[Path], Any]]:
    """List the ways to take `count` uniform frames."""

    def choose(frames: int, seconds: np.ndarray) -> list[int]:
        return uniform(frames, seconds, count)

    found: dict[str, Callable[[Path], Any]] = {
        backend: lambda path, backend=backend: decode_frames(path, choose, SIZE, backend=backend)  # type: ignore[misc]
        for backend in BACKENDS
        if backend in ("auto", "pyav") or usable(backend)
    }
    found["guarded"] = lambda path: decode_frames_guarded(path, choose, SIZE)
    if usable("decord"):
        found["published"] = lambda path: published(path, count)
    found["pytorchvideo"] = lambda path: with_pytorchvideo(path, count)
    return found


def usable(backend: str) -> bool:
    """Return whether a backend is installed with its dependencies."""
    try:
        if backend == "decord":
            import decord  # noqa: F401
        else:
            import torchcodec.decoders  # noqa: F401
    except (ImportError, RuntimeError, OSError):
        return False
    return True


def published(path: Path, count: int) -> np.ndarray:
    """Decode as EVLGen's and most other code does: decord scales, and seeks by its own index."""
    import decord

    reader = decord.VideoReader(str(path), width=SIZE, height=SIZE, num_threads=1)
    return reader.get_batch([place * len(reader) // count for place in range(count)]).asnumpy()


def with_pytorchvideo(path: Path, count: int) -> torch.Tensor:
    """Read a clip of one frame at each time with pytorchvideo."""
    from pytorchvideo.data.encoded_video import EncodedVideo

    video = EncodedVideo.from_path(str(path), decode_audio=False)
    frames = round(video.duration * RATE)
    pictures = []
    for place in range(count):
        start = Fraction(place * frames // count, RATE)
        pictures.append(video.get_clip(start, start + Fraction(1, RATE))["video"][:, 0])
    video.close()
    return torch.nn.functional.interpolate(torch.stack(pictures), (SIZE, SIZE), mode="bilinear", antialias=True)


def measure(path: Path, ways: dict[str, Callable[[Path], Any]], rounds: int) -> dict[str, list[float]]:
    """Measure the seconds of each way in each round; the first round is a warm-up."""
    taken: dict[str, list[float]] = {way: [] for way in ways}
    order = list(ways)
    for number in range(rounds + 1):
        random.Random(number).shuffle(order)
        for way in order:
            start = time.perf_counter()
            ways[way](path)
            if number:
                taken[way].append(time.perf_counter() - start)
    return taken


def described(seconds: list[float]) -> dict[str, Any]:
    """Compute median, spread and clips per second."""
    median = statistics.median(seconds)
    return {
        "median_seconds": round(median, 4),
        "least_seconds": round(min(seconds), 4),
        "most_seconds": round(max(seconds), 4),
        "clips_per_second": round(1 / median, 2),
        "seconds": [round(one, 4) for one in seconds],
    }


def paired(numerator: list[float], denominator: list[float]) -> float:
    """Compute the median over rounds of the ratio within a round."""
    return round(statistics.median(a / b for a, b in zip(numerator, denominator, strict=True)), 3)


def render(path: Path, width: int, height: int, frames: int) -> Path:
    """Write a clip of a moving textured plane, with a cut every ten seconds."""
    random_state = np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "crf": "26"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            if number % (10 * RATE) == 0:
                coarse = random_state.integers(40, 215, (height // 8 + 30, width // 16 + 60), np.uint8)
                plane = coarse.repeat(12, 0).repeat(24, 1)
            top, left = number % (10 * RATE) // 4, number % (10 * RATE)
            luma = plane[top : top + height, left : left + width]
            picture = np.full((height * 3 // 2, width), 128, np.uint8)
            picture[:height] = luma
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="yuv420p")))
        file.mux(stream.encode())
    return path


def summary(report: dict[str, Any]) -> list[str]:
    """Format the report as lines."""
    lines = []
    for clip in report["clips"]:
        for count, result in clip["frames"].items():
            medians = {way: f"{1000 * one['median_seconds']:.0f}" for way, one in result["ways"].items()}
            lines.append(f"{clip['name']}, {count} frames, median ms: {medians}")
            lines.append(
                f"  auto is {result['auto_over_fastest_speed']} of {result['fastest_backend']}'s speed, "
                f"{result['auto_over_published_speed']} of the published way's; guarded takes "
                f"{result['guarded_over_auto_time']} of auto's time"
            )
    return lines


def comparison(folder: Path) -> str:
    """Make a Markdown table of each file and backend, with the PSNR to PyAV's frames at the same indices."""
    backends = [backend for backend in BACKENDS if backend in ("auto", "pyav") or usable(backend)]
    lines = ["| file | backend | frames | size | rotation | PSNR to pyav, dB (least) |", "|---|---|---|---|---|---|"]
    for path in sorted(folder.iterdir()):
        reference: DecodedFrames | None = None
        for backend in sorted(backends, key=lambda name: name != "pyav"):
            try:
                clip = decode_frames(path, lambda frames, seconds: uniform(frames, seconds, 8), backend=backend)
            except UserError as error:
                lines.append(f"| {path.name} | {backend} | {str(error).replace(str(path), 'it')} | | | |")
                continue
            reference = reference or clip
            source = clip.metadata
            lines.append(
                f"| {path.name} | {backend} | {source.frames} {source.codec} | {source.width}×{source.height} | "
                f"{source.rotation} | {likeness(reference.frames, clip.frames)} |"
            )
    return "\n".join(lines)


def likeness(one: np.ndarray, other: np.ndarray) -> str:
    """Compute the peak signal-to-noise ratio of the frame that differs most."""
    error = ((one.astype(float) - other) ** 2).mean((1, 2, 3)).max()
    return "equal" if error == 0 else f"{10 * np.log10(255**2 / error):.1f}"


if __name__ == "__main__":
    main()

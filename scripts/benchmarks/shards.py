"""Measure how fast samples of shards are read, against webdataset and in random order over very many shards.

    pip install webdataset   # not a dependency; without it, the first part is skipped
    python scripts/benchmarks/shards.py

The first part writes shards of small JPEGs and reads them shuffled, by this project and by webdataset, with 0, 1 and 2
workers, in interleaved rounds: once only bytes and captions, once decoded and scaled to 224 × 224 by the same code.
webdataset shuffles the shards and, in a buffer of 1,000, the samples; this project reads 32 shards at a time. The
second writes very many small shards, indexes and opens them, and reads a part of them: in windows, and in fully random
order, as before. Writes `docs/benchmarks/shards.json`.
"""

import argparse
import io
import os
import platform
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from evlvideo.data.loading.shards import clips as shards_module
from evlvideo.data.loading.shards.clips import ShardClips, find_shards
from evlvideo.data.loading.shards.dataset import ShardDataset
from evlvideo.data.media.media import TarMember
from evlvideo.data.video.backends.image import resize
from evlvideo.data.video.guarded import decode_frames_guarded
from evlvideo.files import write_json
from evlvideo.results.provenance import git_commit

SIZE = 224
BATCH = 64
BUFFER = 1000
OUT = Path(__file__).parents[2] / "docs" / "benchmarks" / "shards.json"


def main() -> None:
    """Measure both parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds, after a warm-up round (%(default)s)")
    parser.add_argument("--samples", type=int, default=4000, help="samples of the first part (%(default)s)")
    parser.add_argument("--shards", type=int, default=10_000, help="shards of the second part (%(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, help="JSON file (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        report = {
            **facts(),
            "throughput": throughput(Path(folder) / "few", options.samples, options.rounds),
            "many": many(Path(folder) / "many", options.shards),
        }
    write_json(options.out, report)
    print("\n".join(summary(report)))


def facts() -> dict[str, Any]:
    """Return the machine, versions and commit."""
    versions = {"python": platform.python_version()}
    for name in ("webdataset", "torch", "pillow", "numpy", "safetensors"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    machine = {"processors": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()}
    return {"machine": machine, "versions": versions, "commit": git_commit()}


def write_shards(folder: Path, shards: int, samples: int, picture: Callable[[int], bytes]) -> list[Path]:
    """Write shards as img2dataset does: an image, its facts, its caption."""
    folder.mkdir(parents=True)
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as archive:
            for number in range(shard * samples, (shard + 1) * samples):
                members = {
                    "jpg": picture(number),
                    "json": b'{"caption": "of a picture", "url": "https://example.org", "width": 256, "height": 256}',
                    "txt": f"picture number {number} of a benchmark".encode(),
                }
                for suffix, content in members.items():
                    member = tarfile.TarInfo(f"{number:09d}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return find_shards(folder)


def jpeg(number: int) -> bytes:
    """An image of 64 to 256 pixels a side, as smooth and as noisy as photographs."""
    draw = np.random.default_rng(number)
    height, width = draw.integers(64, 257, 2)
    coarse = Image.fromarray(draw.integers(0, 256, (8, 8, 3), np.uint8)).resize((int(width), int(height)))
    pixels = np.asarray(coarse).astype(int) + draw.normal(0, 8, (height, width, 3)).astype(int)
    content = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(content, "JPEG", quality=90)
    return content.getvalue()


def throughput(folder: Path, samples: int, rounds: int, workers: Sequence[int] = (0, 1, 2)) -> dict[str, Any]:
    """Measure samples per second of both, for each kind of work and number of workers."""
    shards = write_shards(folder, 8, samples // 8, jpeg)
    clips = ShardClips(shards)
    found: dict[str, Any] = {"samples": len(clips), "shards": len(shards), "batch": BATCH, "work": {}}
    for work in ("bytes", "pictures"):
        for count in workers:
            readers: dict[str, Callable[[int], Iterable[Any]]] = {"evlvideo": partial(ours, clips, work, count)}
            if installed():
                readers["webdataset"] = partial(theirs, shards, work, count)
            seconds = measure(readers, len(clips), rounds)
            found["work"].setdefault(work, {})[str(count)] = described(seconds, len(clips))
    return found


def installed() -> bool:
    """Return whether webdataset is installed."""
    try:
        import webdataset  # noqa: F401
    except ImportError:
        return False
    return True


def measure(
    readers: Mapping[str, Callable[[int], Iterable[Any]]], samples: int, rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Measure wall seconds, and CPU seconds of this process and its workers, of each reader in each round."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
    order = list(readers)
    for number in range(rounds + 1):
        random.Random(number).shuffle(order)
        for name in order:
            start, before = time.perf_counter(), cpu_seconds()
            count = sum(len(batch) for batch in readers[name](number))
            seconds = time.perf_counter() - start, cpu_seconds() - before
            assert count == samples, (name, count)
            if number:
                taken[name].append(seconds)
    return taken


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def described(taken: dict[str, list[tuple[float, float]]], samples: int) -> dict[str, Any]:
    """Compute medians, spread, and ratios within rounds, since the machine's load changes between them."""
    result: dict[str, Any] = {
        name: {
            "samples_per_second": round(samples / statistics.median(wall for wall, _ in seconds), 1),
            "least": round(samples / max(wall for wall, _ in seconds), 1),
            "most": round(samples / min(wall for wall, _ in seconds), 1),
            "cpu_microseconds_per_sample": round(1e6 * statistics.median(cpu for _, cpu in seconds) / samples, 1),
        }
        for name, seconds in taken.items()
    }
    if len(taken) > 1:
        pairs = list(zip(taken["webdataset"], taken["evlvideo"], strict=True))
        result["ratio"] = round(statistics.median(one[0] / other[0] for one, other in pairs), 3)
        result["cpu_ratio"] = round(statistics.median(one[1] / other[1] for one, other in pairs), 3)
    return result


class Walk(Dataset[Any]):
    """Return what is at each index of a random order."""

    def __init__(self, source: Any, order: Callable[[int], int]) -> None:
        self.source, self.order = source, order

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, place: int) -> Any:
        return self.source[self.order(place)]


class Content(Dataset[Any]):
    """Read a sample's bytes and caption."""

    def __init__(self, clips: ShardClips) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, number: int) -> tuple[bytes, str]:
        clip = self.clips[number]
        return clip.video.read(), clip.captions[0]


def ours(clips: ShardClips, work: str, workers: int, key: int) -> Iterable[Any]:
    """Yield batches as in this project's training, with everything it does for each sample."""

    def decode(media: TarMember, generator: torch.Generator) -> np.ndarray:
        return decode_frames_guarded(media, lambda frames, rate: [0], SIZE).frames

    source = Content(clips) if work == "bytes" else ShardDataset(clips, decode=decode, transform=as_tensor, seed=0)
    walk = Walk(source, lambda place: clips.in_order(place, key))
    return DataLoader(walk, BATCH, num_workers=workers, collate_fn=list)


def as_tensor(frames: np.ndarray) -> torch.Tensor:
    """Convert (T, H, W, 3) to (T, 3, H, W)."""
    return torch.from_numpy(frames).permute(0, 3, 1, 2).contiguous()


def theirs(shards: list[Path], work: str, workers: int, key: int) -> Iterable[Any]:
    """Yield batches of webdataset."""
    import webdataset

    def decoded(sample: tuple[bytes, bytes]) -> tuple[torch.Tensor, str]:
        picture, caption = sample
        pixels = resize(Image.open(io.BytesIO(picture)).convert("RGB"), SIZE, SIZE)
        return as_tensor(pixels.copy()[None]), caption.decode()

    def read(sample: tuple[bytes, bytes]) -> tuple[bytes, str]:
        return sample[0], sample[1].decode()

    names = [str(shard) for shard in shards]
    data = webdataset.WebDataset(names, shardshuffle=len(shards), seed=key, empty_check=False)
    data = data.shuffle(BUFFER).to_tuple("jpg", "txt").map(read if work == "bytes" else decoded)
    return DataLoader(data, BATCH, num_workers=workers, collate_fn=list)


def many(folder: Path, shards: int, samples: int = 20) -> dict[str, Any]:
    """Measure indexing, opening and reading very many shards."""
    write_shards(folder, shards, samples, lambda number: bytes(300))
    command = [sys.executable, "-m", "evlvideo", "data", "index", str(folder), "--processes", "2"]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    indexing = time.perf_counter() - start
    before, start = private_megabytes(), time.perf_counter()
    clips = ShardClips(find_shards(folder))
    opening = time.perf_counter() - start
    return {
        "shards": shards,
        "samples": len(clips),
        "index_seconds": round(indexing, 1),
        "open_seconds": round(opening, 2),
        "open_megabytes": round(private_megabytes() - before, 1),
        "walks": {
            "windows": walked(clips, lambda place: clips.in_order(place, 1)),
            "everywhere": walked(clips, everywhere(len(clips))),
        },
    }


def everywhere(count: int) -> Callable[[int], int]:
    """Yield samples of all shards in random order."""
    from evlvideo.data.loading.mixture import permuted

    return lambda place: permuted(place, count, 1)


def walked(clips: ShardClips, order: Callable[[int], int], most: int = 20_000) -> dict[str, float]:
    """Measure a worker over the first samples of a pass: time, files opened, memory."""
    opened = 0
    plain = shards_module.ShardFile

    def counting(path: Path) -> Any:
        nonlocal opened
        opened += 1
        return plain(path)

    count = min(len(clips), most)
    clips._open.clear()
    shards_module.ShardFile = counting  # type: ignore[assignment, misc]
    try:
        before, start = private_megabytes(), time.process_time()
        for place in range(count):
            clips[order(place)]
        seconds = time.process_time() - start
    finally:
        shards_module.ShardFile = plain  # type: ignore[misc]
    return {
        "samples": count,
        "cpu_microseconds_per_sample": round(1e6 * seconds / count, 1),
        "opened_per_sample": round(opened / count, 4),
        "megabytes": round(private_megabytes() - before, 1),
    }


def private_megabytes() -> float:
    """Return the memory that this process shares with no other; 0 if unknown."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024


def summary(report: dict[str, Any]) -> Iterator[str]:
    """Format the report as lines."""
    for work, of_workers in report["throughput"]["work"].items():
        for workers, found in of_workers.items():
            speeds = {name: found[name]["samples_per_second"] for name in found if isinstance(found[name], dict)}
            yield f"{work}, {workers} workers, samples per second: {speeds}, ratio {found.get('ratio', 'not measured')}"
    yield f"many: {report['many']}"


if __name__ == "__main__":
    main()

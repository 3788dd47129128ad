"""Measure how start-up time and memory grow with the number of clips, for each format of annotation.

    python scripts/benchmarks/scale.py

Writes `docs/benchmarks/scale.json`, the source of `docs/benchmarks.md`. Annotations, empty video files and shards are
generated. A separate process reads each format and size, as training does, and iterates over it with a loader of two
workers, whose decoding is replaced by a constant. Clips have one caption of some 60 characters.

Seconds are wall time from before the annotation is read to the first batch, at a first start, which locates files and
caches the table (for shards, their indexes), and at a second one; beside them, the CPU time of reading, which other
load on the machine affects less. Memory is private to a process (USS): the growth of the training process since before
it read anything, and of a worker between its first batch and the end of the epoch.
"""

import argparse
import io
import json
import os
import platform
import resource
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from process_parts.fork import in_process
from torch.utils.data import DataLoader, SequentialSampler

from evlvideo.assembly import clips as assembly
from evlvideo.config.data import DataConfig, SourceConfig
from evlvideo.data.annotation.facts import DATASETS
from evlvideo.data.loading.caption_dataset import CaptionDataset
from evlvideo.data.loading.mixture import Mixture
from evlvideo.data.loading.shards.clips import ShardClips
from evlvideo.data.loading.shards.dataset import ShardDataset
from evlvideo.files import write_json
from evlvideo.results.provenance import git_commit, versions

ROOT = Path(__file__).parents[2]
SIZES = (10_000, 100_000, 1_000_000, 2_000_000)
PER_FOLDER, PER_SHARD = 1000, 10_000
WORKERS, BATCH = 2, 256


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forms", nargs="+", default=list(WRITERS), choices=WRITERS, help="(%(default)s)")
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES, help="numbers of clips (%(default)s)")
    parser.add_argument(
        "--most-shards", type=int, default=100, help=f"shards, of {PER_SHARD:,} samples each, at most (%(default)s)"
    )
    parser.add_argument("--most-items", type=int, default=10**9, help="items of an epoch to iterate over (all)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "scale.json")
    options = parser.parse_args()
    report: dict[str, Any] = {
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]},
        "versions": versions(),
        "commit": git_commit(),
        "workers": WORKERS,
        "forms": {},
    }
    with tempfile.TemporaryDirectory() as videos:
        made = 0
        for size in options.sizes:
            make_files(Path(videos), made, size)
            made = size
            for form in options.forms:
                if form == "shards" and size > options.most_shards * PER_SHARD:
                    continue
                found = of_both_starts(form, size, Path(videos), options.most_items)
                report["forms"].setdefault(form, []).append({"clips": size, **found})
                print(form, size, found, flush=True)
                write_json(options.out, report)


def of_both_starts(form: str, size: int, videos: Path, most_items: int) -> dict[str, Any]:
    """Measure one format and size: a first start, and a second one that iterates over the epoch."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "data").mkdir()
        WRITERS[form](directory / "data", size)
        os.environ["EVLVIDEO_CACHE"] = str(directory / "cache")
        source = SourceConfig(dataset=form, root=str(directory / "data"), video_root=str(videos))
        first, second = (in_process(measure, source, items) for items in (BATCH, most_items))
    return {"first_start": first, "second_start": second}


def measure(source: SourceConfig, most_items: int) -> dict[str, Any]:
    """Start, and iterate over an epoch, in this process."""
    constant = torch.zeros(1, 3, 2, 2)
    common: dict[str, Any] = {"transform": lambda frames: constant, "seed": 0}
    CaptionDataset._pixel_values = lambda self, clip, entropy: constant  # type: ignore[method-assign]
    # Any number of clips with one caption each passes as MSR-VTT here.
    facts = replace(DATASETS["msrvtt"], clips=lambda: {"train": None}, captions_per_clip=None)
    DATASETS["msrvtt"] = facts
    before, started, cpu = Memory.of("self"), time.perf_counter(), time.process_time()
    ((name, clips),) = assembly.read_training_clips(DataConfig(sources=[source])).items()
    read_seconds, read_cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before.resident
    dataset = (
        ShardDataset(clips, decode=lambda media, generator: constant.numpy(), **common)
        if isinstance(clips, ShardClips)
        else CaptionDataset(clips, num_frames=1, sampling="uniform", image_size=2, per_caption=True, **common)
    )
    mixture = Mixture({name: dataset}, {name: 1}, seed=0, items_per_step=BATCH)
    alone = Memory.of("self")
    loader = DataLoader(
        mixture,
        BATCH,
        sampler=SequentialSampler(mixture),
        num_workers=WORKERS,
        collate_fn=lambda items: sum(len(item["caption"]) for item in items),
        persistent_workers=True,
    )
    batches = iter(loader)
    next(batches)
    seconds = time.perf_counter() - started
    workers = [worker.pid for worker in batches._workers]  # type: ignore[attr-defined]
    at_first = [Memory.of(worker) for worker in workers]
    items = BATCH
    while items < min(most_items, len(mixture)):
        next(batches)
        items += BATCH
    at_last = [Memory.of(worker) for worker in workers]
    return {
        "read_seconds": read_seconds,
        "read_cpu_seconds": read_cpu_seconds,
        "first_batch_seconds": seconds,
        "reading_peak_mb": peak_mb,
        "process_mb": alone.own - before.own,
        "worker_growth_mb": [last.own - first.own for first, last in zip(at_first, at_last, strict=True)],
        "worker_mb": [last.own for last in at_last],
        "worker_share_mb": [last.share for last in at_last],
        "items": min(items, len(mixture)),
    }


class Memory:
    """Return a process's memory in MB: private, proportional and resident."""

    def __init__(self, own: float, share: float, resident: float) -> None:
        self.own, self.share, self.resident = own, share, resident

    @classmethod
    def of(cls, process: int | str) -> "Memory":
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]
        mb = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
        return cls(mb["Private_Clean"] + mb["Private_Dirty"], mb["Pss"], mb["Rss"])


def write_jsonl(root: Path, size: int) -> None:
    """Write our own format."""
    with (root / "captions.jsonl").open("w") as file:
        for number in range(size):
            line = {"video": f"{name_of(number)}.mp4", "captions": [caption(number)], "split": "train"}
            file.write(f"{json.dumps(line)}\n")


def write_webvid(root: Path, size: int) -> None:
    """Write WebVid's CSV file."""
    with (root / "results_10M_train.csv").open("w") as file:
        file.write("videoid,contentUrl,duration,page_dir,name\n")
        for number in range(size):
            page = f"{number // PER_FOLDER:06d}"
            file.write(f"{number},https://x/{number}.mp4,PT00H00M11S,{page},{caption(number)}\n")


def write_msrvtt(root: Path, size: int) -> None:
    """Write MSR-VTT's official JSON, with one caption per clip."""
    with (root / "train_val_videodatainfo.json").open("w") as file:
        file.write('{"info": {}, "videos": [')
        for number in range(size):
            video = {"video_id": name_of(number), "category": number % 20, "split": "train"}
            file.write(f"{', ' if number else ''}{json.dumps(video)}")
        file.write('], "sentences": [')
        for number in range(size):
            sentence = {"sen_id": number, "video_id": name_of(number), "caption": caption(number)}
            file.write(f"{', ' if number else ''}{json.dumps(sentence)}")
        file.write("]}")


def write_shards(root: Path, size: int) -> None:
    """Write tar files of tiny members."""
    for first in range(0, size, PER_SHARD):
        with tarfile.open(root / f"{first // PER_SHARD:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as shard:
            for number in range(first, min(first + PER_SHARD, size)):
                for suffix, content in (("jpg", b"picture"), ("txt", caption(number).encode())):
                    member = tarfile.TarInfo(f"{number:09d}.{suffix}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))


def caption(number: int) -> str:
    return f"clip {number} shows somebody who does something at some place"


def name_of(number: int) -> str:
    return f"{number // PER_FOLDER:06d}/{number}"


def make_files(root: Path, first: int, end: int) -> None:
    """Create empty video files for the numbers from the first to before the end."""
    for number in range(first, end):
        if number % PER_FOLDER == 0:
            (root / f"{number // PER_FOLDER:06d}").mkdir()
        (root / f"{name_of(number)}.mp4").touch()


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "jsonl": write_jsonl,
    "webvid": write_webvid,
    "msrvtt": write_msrvtt,
    "shards": write_shards,
}

if __name__ == "__main__":
    main()

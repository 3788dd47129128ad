"""Measure `evlvideo caption --out DIR`: clips a second, memory by rows, and a million rows.

    python scripts/benchmarks/corpus.py
    python scripts/benchmarks/corpus.py --small --out /tmp/corpus.json

Writes `docs/benchmarks/corpus.json`.

`speed`: rendered clips are captioned by the mini checkpoint in four ways, in turn, round after round. `loop` is a plain
loop over batches: decode, then caption. `local` is the engine with its parts. `decode` and `caption` are each stage
alone, with the same workers. What they allow is the larger of their seconds or, where both run on the same cores, the
CPU seconds of both over the cores, if that is more.

`memory`: rows whose decoding and captioning are stand-ins, with frames of the usual size, in a process of each size.
Peaks are resident memory of the driver and of a worker.

`million`: a table of a million paths whose stages are stand-ins: seconds to plan, to caption each half, and to
plan again with half of the rows done, with the CPU seconds of planning; and peak memory of the driver.
"""

import argparse
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from accelerate import PartialState
from process_parts.fork import in_process
from pyarrow.parquet import write_table

from evlvideo.config.run import RunConfig
from evlvideo.corpus.job import write_parts
from evlvideo.corpus.local import DecodedRows, caption_rows
from evlvideo.corpus.output import Made, Parts, files_of
from evlvideo.corpus.rows import Row, Rows
from evlvideo.corpus.sources import read_sources
from evlvideo.corpus.stages import CaptionBatches, DecodeRows, Item, collate_items
from evlvideo.data.loading.loader import batch_loader
from evlvideo.files import write_json
from evlvideo.inference.caption_files import checkpoint_config, open_captioner
from evlvideo.inference.pipeline import batches_of
from evlvideo.mini import build
from evlvideo.models.checkpoint import checkpoint_directory
from evlvideo.processes import usable_cores
from evlvideo.results.provenance import git_commit, versions

ROOT = Path(__file__).parents[2]
MADE_BY = {"weights": "stand-in", "decoding": {"seed": 42}}
FRAMES = (8, 3, 224, 224)
BATCH, MILLION_BATCH = 16, 1000


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=480, help="clips for the speed (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, after one that warms up (%(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode (%(default)s)")
    parser.add_argument("--sizes", nargs="+", type=int, default=[2_000, 20_000], help="rows for the memory")
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the large table (%(default)s)")
    parser.add_argument("--small", action="store_true", help="try it in a minute")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "corpus.json")
    options = parser.parse_args()
    if options.small:
        options.clips, options.rounds, options.sizes, options.rows = 16, 1, [100, 400], 10_000
    report = {
        "machine": {"cpus": usable_cores(), "platform": platform.platform(), "load": os.getloadavg()[0]},
        "versions": versions(),
        "commit": git_commit(),
        "speed": in_process(speed, options.clips, options.rounds, options.workers),
        "memory": [in_process(memory, size, options.workers) for size in options.sizes],
        "million": in_process(million, options.rows),
    }
    write_json(options.out, report)
    print("\n".join(summary(report)))


def speed(clips: int, rounds: int, workers: int) -> dict[str, Any]:
    """Caption rendered clips in every way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build.build_mini(folder / "data", progress=False, splits={"train": 1, "validate": 1, "test": clips - 2})
        config = checkpoint_config(checkpoint_directory("mini"), [f"generation.batch_size={BATCH}"])
        work = Work(read_sources([folder / "data" / "videos"]), config, workers)
        seconds: dict[str, list[float]] = {way: [] for way in work.ways}
        for turn in range(rounds + 1):
            for way, run in work.ways.items():
                started = time.perf_counter()
                run(folder / f"out-{way}-{turn}")
                if turn:
                    seconds[way].append(time.perf_counter() - started)
        cpu = {way: cpu_seconds(lambda way=way: work.ways[way](folder / "cpu")) for way in ("decode", "caption")}
    medians = {way: statistics.median(of_way) for way, of_way in seconds.items()}
    shared = torch.device(PartialState().device).type == "cpu"
    cores = sum(cpu.values()) / usable_cores() if shared else 0.0
    allowed = max(medians["decode"], medians["caption"], cores)
    return {
        "clips": len(work.rows),
        "workers": workers,
        "batch": BATCH,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "allowed_seconds": allowed,
        "clips_a_second": {way: len(work.rows) / of_way for way, of_way in medians.items()},
        "local_of_allowed": allowed / medians["local"],
        "local_of_loop": medians["loop"] / medians["local"],
    }


class Work:
    """Rows, and ways to caption them.

    Args:
        rows: the rows.
        config: frames and decoding.
        workers: processes that decode.
    """

    def __init__(self, rows: Rows, config: RunConfig, workers: int) -> None:
        model, processor = open_captioner(checkpoint_directory("mini"), config, 1, None)
        self.rows, self._workers = rows, workers
        self._decode = DecodeRows(config.data, processor.image_size)
        self._caption = CaptionBatches(model, processor, config)
        self._batches = batches_of(len(rows), BATCH)
        self._decoded = [collate_items(self._decode(list(rows[batch.start : batch.stop]))) for batch in self._batches]
        self.ways: dict[str, Callable[[Path], object]] = {
            "loop": self.loop,
            "local": self.local,
            "decode": self.decode,
            "caption": self.caption,
        }

    def loop(self, out: Path) -> None:
        """Decode a batch, caption it, and go on to the next."""
        for batch in self._batches:
            self._caption(collate_items(self._decode(list(self.rows[batch.start : batch.stop]))))

    def local(self, out: Path) -> None:
        """Run the engine, and write its parts."""
        stream = caption_rows(self.rows, self._decode, self._caption, batch_size=BATCH, num_workers=self._workers)
        write_parts(Parts(out, MADE_BY), stream, BATCH)

    def decode(self, out: Path) -> None:
        """Decode all batches in the workers."""
        dataset = DecodedRows(self.rows, self._decode)
        for _ in batch_loader(dataset, self._batches, collate_items, num_workers=self._workers):
            pass

    def caption(self, out: Path) -> None:
        """Caption all batches, which are in memory."""
        for batch in self._decoded:
            self._caption(batch)


def cpu_seconds(run: Callable[[], object]) -> float:
    """Count the CPU seconds of a call, with those of processes that end in it."""
    before = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    run()
    after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(
        new.ru_utime + new.ru_stime - old.ru_utime - old.ru_stime for old, new in zip(before, after, strict=True)
    )


def frames_of_zeros(rows: Sequence[Row]) -> list[Item]:
    """Stand in for decoding, with frames of the usual size."""
    return [{"clip_id": row.id, "pixel_values": torch.zeros(FRAMES, dtype=torch.uint8), "frames": 8} for row in rows]


def no_frames(rows: Sequence[Row]) -> list[Item]:
    """Stand in for decoding."""
    return [{"clip_id": row.id, "pixel_values": _NOTHING, "frames": 8} for row in rows]


_NOTHING = torch.zeros(1, dtype=torch.uint8)


def same_caption(batch: Mapping[str, Any]) -> list[Made]:
    """Stand in for captioning."""
    return [Made(("a person walks along a street with a dog",), (-0.5,), frames) for frames in batch["frames"]]


def memory(rows: int, workers: int) -> dict[str, Any]:
    """Caption rows of stand-ins, and return peaks in MB."""
    table = Rows.of(Row(f"{number:016x}", f"/videos/{number:07d}.mp4") for number in range(rows))
    with tempfile.TemporaryDirectory() as name:
        stream = caption_rows(table, frames_of_zeros, same_caption, batch_size=BATCH, num_workers=workers)
        write_parts(Parts(Path(name), MADE_BY), stream, BATCH)
    return {"rows": rows, "driver_mb": peak_mb(resource.RUSAGE_SELF), "worker_mb": peak_mb(resource.RUSAGE_CHILDREN)}


def million(rows: int) -> dict[str, Any]:
    """Caption a large table of stand-ins: half, and then the other half."""
    before = peak_mb(resource.RUSAGE_SELF)
    with tempfile.TemporaryDirectory() as name:
        table, out = Path(name) / "table.parquet", Path(name) / "out"
        paths = [f"clips/{number // 1000:04d}/video{number:07d}.mp4" for number in range(rows)]
        write_table(pa.table({"path": paths}), table)
        del paths
        started, cpu = time.perf_counter(), time.process_time()
        todo = read_sources([table])
        todo = todo.beside(Parts(out, MADE_BY).done)
        planned, plan_cpu = time.perf_counter(), time.process_time() - cpu
        _caption_all(todo[: rows // 2], out)
        half = time.perf_counter()
        del todo
        cpu = time.process_time()
        rest = read_sources([table]).beside(Parts(out, MADE_BY).done)
        resumed, resume_cpu = time.perf_counter(), time.process_time() - cpu
        assert len(rest) == rows - rows // 2, "half of the rows are done"
        _caption_all(rest, out)
        ended = time.perf_counter()
        parts = len(files_of(out))
        assert Parts(out, MADE_BY).done.num_rows == rows, "every row came out"
    return {
        "rows": rows,
        "parts": parts,
        "plan_seconds": planned - started,
        "plan_cpu_seconds": plan_cpu,
        "half_seconds": half - planned,
        "resume_seconds": resumed - half,
        "resume_cpu_seconds": resume_cpu,
        "other_half_seconds": ended - resumed,
        "driver_before_mb": before,
        "driver_mb": peak_mb(resource.RUSAGE_SELF),
    }


def _caption_all(rows: Rows, out: Path) -> None:
    stream = caption_rows(rows, no_frames, same_caption, batch_size=MILLION_BATCH, num_workers=0)
    write_parts(Parts(out, MADE_BY), stream, MILLION_BATCH)


def peak_mb(who: int) -> float:
    """Return the peak of the resident memory of this process, or the largest of its children's."""
    return resource.getrusage(who).ru_maxrss / 1024


def summary(report: Mapping[str, Any]) -> list[str]:
    """Return lines to read."""
    found, many = report["speed"], report["million"]
    rates = ", ".join(f"{way} {rate:.1f}" for way, rate in found["clips_a_second"].items())
    return [
        f"clips a second: {rates}; local is {found['local_of_allowed']:.2f} of what its stages allow, and "
        f"{found['local_of_loop']:.2f} times the loop",
        *(
            f"{size['rows']:,} rows: driver {size['driver_mb']:.0f} MB, worker {size['worker_mb']:.0f} MB"
            for size in report["memory"]
        ),
        f"{many['rows']:,} rows: planned in {many['plan_seconds']:.1f} s, resumed at half in "
        f"{many['resume_seconds']:.1f} s, driver {many['driver_mb']:.0f} MB ({many['driver_before_mb']:.0f} before)",
    ]


if __name__ == "__main__":
    main()

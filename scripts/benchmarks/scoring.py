"""Measure scoring and comparing at full size: seconds, memory, and the size of what is written.

    python scripts/benchmarks/scoring.py --clips 100000

Writes `docs/benchmarks/scoring.json`. Captions are generated: about ten words by Zipf's law, some shared by all texts
of a clip, with five references per clip. Each part runs in a separate process to measure its peak memory; Java programs
are listed separately. Records wall time and CPU time, which other load on the machine affects less.
"""

import argparse
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from itertools import accumulate
from pathlib import Path
from typing import Any

from evlvideo.files import write_json
from evlvideo.results.prediction_files import write_predictions
from evlvideo.results.provenance import git_commit, versions

ROOT = Path(__file__).parents[2]
REFERENCES, WORDS, SYSTEMS = 5, 20_000, ("one", "two")
WITHOUT_METEOR = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")
Captions = dict[str, str]


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[10_000, 100_000], help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "scoring.json")
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(measured(options.part, options.directory)))
        return
    report = {
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]},
        "versions": versions(),
        "commit": git_commit(),
        "references": REFERENCES,
        "systems": len(SYSTEMS),
        "clips": {str(clips): measure(clips) for clips in options.clips},
    }
    write_json(options.out, report)
    print(json.dumps(report, indent=1))


def measure(clips: int) -> dict[str, Any]:
    """Measure each part on this many clips, in a separate process."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_captions(clips, directory)
        found = {}
        for part in PARTS:
            command = [sys.executable, __file__, "--part", part, "--directory", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[part] = json.loads(done.stdout.splitlines()[-1])
        return found


def write_captions(clips: int, directory: Path, seed: int = 0) -> None:
    """Write references of clips, and captions of systems, into a directory."""
    drawn = random.Random(seed)
    weights = list(accumulate(1 / (rank + 3) for rank in range(WORDS)))
    vocabulary = [f"w{rank:x}" for rank in range(WORDS)]

    def text(of_clip: list[str]) -> str:
        length = max(3, round(drawn.gauss(10.5, 2.8)))
        shared = sum(drawn.random() < 0.45 for _ in range(length))
        words = drawn.choices(of_clip, k=shared)
        words += drawn.choices(vocabulary, cum_weights=weights, k=length - shared)
        drawn.shuffle(words)
        return " ".join(words).capitalize() + "."

    references: dict[str, list[str]] = {}
    systems: dict[str, Captions] = {name: {} for name in SYSTEMS}
    for clip in range(clips):
        of_clip = drawn.choices(vocabulary, cum_weights=weights, k=8)
        references[f"clip{clip}"] = [text(of_clip) for _ in range(REFERENCES)]
        for captions in systems.values():
            captions[f"clip{clip}"] = text(of_clip)
    write_json(directory / "references.json", references)
    for name, captions in systems.items():
        write_predictions(directory / f"{name}.json", captions)


def measured(part: str, directory: Path) -> dict[str, Any]:
    """Measure the resources of a part, and add its own findings."""
    wall = time.perf_counter()
    said = PARTS[part](directory)
    of_self, of_programs = (resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "wall_seconds": round(time.perf_counter() - wall, 2),
        "cpu_seconds": round(of_self.ru_utime + of_self.ru_stime, 2),
        "programs_cpu_seconds": round(of_programs.ru_utime + of_programs.ru_stime, 2),
        "peak_mb": of_self.ru_maxrss // 1024,
        **said,
    }


def score(directory: Path) -> dict[str, Any]:
    """Score one caption file like `evlvideo score`, without METEOR; write and read its result."""
    from evlvideo.evaluation.score import score_files
    from evlvideo.results.records import EvaluationResult

    found = score_files(directory / "one.json", directory / "references.json", metrics=WITHOUT_METEOR)
    scored = {"scored_cpu_seconds": round(time.process_time(), 2), "tokenizer": found.tokenizer}
    path = directory / "result.json"
    found.save(path)
    saved = time.process_time()
    EvaluationResult.load(path)
    return {
        **scored,
        "result_mb": round(path.stat().st_size / 1e6, 1),
        "result_read_cpu_seconds": round(time.process_time() - saved, 2),
    }


def compare_files(directory: Path) -> dict[str, Any]:
    """Run `evlvideo compare --predictions` on all systems, without METEOR."""
    from evlvideo.comparison.compare import compare
    from evlvideo.comparison.rows import gather
    from evlvideo.comparison.rows.scoring import ScoringRequest

    gather.MeteorProcess = NoMeteor  # type: ignore[misc, assignment]
    others = ScoringRequest({name: directory / f"{name}.json" for name in SYSTEMS}, directory / "references.json")
    compare([], out=directory / "report", request=others)
    return {"page_mb": round((directory / "report" / "report.html").stat().st_size / 1e6, 2)}


class NoMeteor:
    """Replaces METEOR, whose program takes minutes for this many clips."""

    failure = "left out of this measurement"

    def score(self, *_: object) -> None:
        """Return no score."""

    def __enter__(self) -> "NoMeteor":
        """Do nothing."""
        return self

    def __exit__(self, *_: object) -> None:
        """Do nothing."""


PARTS = {
    "score": score,
    "compare": compare_files,
}
"""Name → part."""


if __name__ == "__main__":
    main()

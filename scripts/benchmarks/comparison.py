"""Time each part of a comparison of three caption files on MSR-VTT's test split.

    python scripts/benchmarks/comparison.py --references data/msrvtt/test_videodatainfo.json

Writes `docs/benchmarks/comparison.json`. Needs only the official annotation: the captions of the three systems are the
second, third and fourth of each clip's own, cut after nine words. Records wall time and this process's CPU time, which
other load on the machine affects less; METEOR and the tokenizer are separate programs.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evlvideo.comparison.rows.references import TableReferences, references_of_file
from evlvideo.comparison.rows.row import system_row
from evlvideo.comparison.rows.scoring import ScoringRequest, read_requested, score_predictions, tokenize_table
from evlvideo.comparison.rows.seeds import SeedGroup
from evlvideo.comparison.tables.formats import to_csv, to_markdown, to_records
from evlvideo.comparison.tables.latex import to_latex
from evlvideo.comparison.tables.significance import Resampling, add_significance
from evlvideo.comparison.tables.table import build_table
from evlvideo.files import write_json
from evlvideo.metrics.meteor import MeteorProcess
from evlvideo.metrics.tokenizers.tokenize import default_tokenizer
from evlvideo.results.prediction_files import write_predictions
from evlvideo.results.provenance import git_commit, versions

ROOT = Path(__file__).parents[2]
SYSTEMS, WORDS = 3, 9
Seconds = dict[str, dict[str, float]]


def main() -> None:
    """Measure, and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--references",
        type=Path,
        default=ROOT / "data" / "msrvtt" / "test_videodatainfo.json",
        help="MSR-VTT's official file (%(default)s)",
    )
    parser.add_argument("--resamples", type=int, default=Resampling(None).resamples, help="(%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "comparison.json")
    options = parser.parse_args()
    if not options.references.is_file():
        print(f"{options.references} does not exist, so there is nothing to measure; name it with --references.")
        return
    with tempfile.TemporaryDirectory() as directory:
        seconds = measure(options.references, Path(directory), options.resamples)
    report = {
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]},
        "versions": versions(),
        "commit": git_commit(),
        "systems": SYSTEMS,
        "resamples": options.resamples,
        "seconds": seconds,
    }
    write_json(options.out, report)
    print(report)


def measure(path: Path, directory: Path, resamples: int) -> Seconds:
    """Measure the seconds of each part of a comparison."""
    seconds: Seconds = {}
    with timed("references read", seconds):
        references = references_of_file(path, None)
    others = ScoringRequest(write_systems(references, directory), references=path)
    with timed("captions read and checked", seconds):
        checked = read_requested(others, references)
    with MeteorProcess() as meteor:
        with timed("all tokenised", seconds):
            captions = {name: of.captions for name, of in checked.items()}
            words = tokenize_table(references, captions, default_tokenizer())
        with timed("metrics of all systems", seconds):
            systems = score_predictions(checked, others, references, words, meteor)
    with timed("intervals and tests", seconds):
        plan = Resampling(systems[0].name, resamples)
        entries, remarks = add_significance(
            [system_row(system) for system in systems], [SeedGroup.of_one(system) for system in systems], words, plan
        )
    with timed("table in every form", seconds):
        table = build_table("MSR-VTT, test split", entries, remarks)
        for render in (to_markdown, to_csv, to_records):
            render(table)
        to_latex(table, "")
    return seconds


def write_systems(references: TableReferences, directory: Path) -> dict[str, Path]:
    """Write caption files that differ and have no empty captions."""
    files = {f"system-{place}": directory / f"system-{place}.json" for place in range(1, SYSTEMS + 1)}
    for place, path in enumerate(files.values(), start=1):
        captions = {clip: " ".join(texts[place].split()[:WORDS]) for clip, texts in references.captions.items()}
        write_predictions(path, captions)
    return files


@contextmanager
def timed(part: str, seconds: Seconds) -> Iterator[None]:
    """Record the seconds of a part."""
    wall, process = time.perf_counter(), time.process_time()
    yield
    seconds[part] = {"wall": time.perf_counter() - wall, "process": time.process_time() - process}


if __name__ == "__main__":
    main()

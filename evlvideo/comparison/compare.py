"""From run directories to one table and one report."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evlvideo.comparison.frames import FramesFor, sampled_frames
from evlvideo.comparison.gallery import build_gallery
from evlvideo.comparison.renderers import to_csv, to_markdown, to_records
from evlvideo.comparison.report import DATASET_TITLES, render_report
from evlvideo.comparison.reported import quoted_entries
from evlvideo.comparison.runs import EvaluatedRun, check_comparable, read_runs
from evlvideo.comparison.table import Table, build_table, run_entry
from evlvideo.errors import UserError
from evlvideo.files import write_json, write_text


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was compared, and where it was written."""

    table: Table
    report: Path
    """The HTML page; `table.md`, `table.csv` and `table.json` are beside it."""


def compare(
    run_directories: Sequence[Path],
    *,
    split: str = "test",
    out: Path,
    gallery_clips: int = 24,
    quoted: bool = False,
    seed: int = 0,
    frames_for: FramesFor = sampled_frames,
) -> Comparison:
    """Put evaluated runs in one table, and write it with learning curves and a gallery of clips.

    Args:
        run_directories: runs, in the order of the table's rows.
        split: the split they were scored on, `test`; or with its data set, `msrvtt:test`.
        out: directory that gets `report.html`, `table.md`, `table.csv` and `table.json`.
        gallery_clips: clips shown in the report; 0 shows none.
        quoted: also show published numbers for this data set and split, marked as quoted.
        seed: decides which clips are shown.
        frames_for: gives the frames of a clip to show.

    Raises:
        UserError: there are no runs, one has no evaluation on the split, or they were not scored the same way.
    """
    if gallery_clips < 0:
        raise UserError(f"The gallery is to show {gallery_clips} clips; give 0 or more.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a directory for the report.")
    runs = read_runs(run_directories, split)
    check_comparable(runs)
    table = _build(runs, quoted)
    gallery = build_gallery(runs, gallery_clips, seed, frames_for)
    page = render_report(table, runs, gallery)
    _write(out, page, table, runs[0])
    return Comparison(table, out / "report.html")


def _build(runs: Sequence[EvaluatedRun], quoted: bool) -> Table:
    result = runs[0].result
    dataset = DATASET_TITLES.get(result.dataset, result.dataset)
    published = quoted_entries(result.dataset, result.split or "") if quoted else []
    remarks = [*_stages(runs), *_different_versions(runs)]
    if quoted and not published:
        remarks.append(f"There are no published numbers to quote for {result.dataset}:{result.split}.")
    entries = [*published, *(run_entry(run) for run in runs)]
    return build_table(f"{dataset}, {result.split} split", entries, remarks)


def _stages(runs: Sequence[EvaluatedRun]) -> list[str]:
    if any(run.training.get("stage") == "scst" for run in runs):
        return ["Training seconds are each run's own; a self-critical run comes on top of the run that it starts from."]
    return []


def _different_versions(runs: Sequence[EvaluatedRun]) -> list[str]:
    """Name the packages whose versions differ between the evaluations; scores may still be the same."""
    packages = sorted(set().union(*(run.result.versions for run in runs)))
    differing = [name for name in packages if len({run.result.versions.get(name) for run in runs}) > 1]
    return [f"Evaluated with different versions of {', '.join(differing)}."] if differing else []


def _write(out: Path, page: str, table: Table, run: EvaluatedRun) -> None:
    result = run.result
    record = {
        "dataset": result.dataset,
        "split": result.split,
        "references": asdict(result.references),
        "tokenizer": result.tokenizer,
        "decoding": result.decoding,
        "rows": to_records(table),
        "remarks": list(table.remarks),
    }
    write_text(out / "table.md", to_markdown(table))
    write_text(out / "table.csv", to_csv(table))
    write_json(out / "table.json", record)
    write_text(out / "report.html", page)

"""Compares runs and other systems: writes one table and one report."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evlvideo.comparison.page.clip_media import FrameReader, decode_frames
from evlvideo.comparison.page.gallery import Gallery, build_gallery
from evlvideo.comparison.page.inspection import Inspection
from evlvideo.comparison.page.report import DATASET_TITLES, render_report
from evlvideo.comparison.rows.gather import Gathered, gather_systems
from evlvideo.comparison.rows.quoted import quoted_rows
from evlvideo.comparison.rows.row import group_row
from evlvideo.comparison.rows.scoring import ScoringRequest
from evlvideo.comparison.rows.seeds import SeedGroup, seed_remarks
from evlvideo.comparison.rows.system import System
from evlvideo.comparison.rows.training_differences import training_difference_remarks
from evlvideo.comparison.tables.formats import to_csv, to_markdown, to_records
from evlvideo.comparison.tables.latex import to_latex
from evlvideo.comparison.tables.multiply_adds import add_multiply_adds
from evlvideo.comparison.tables.significance import Resampling, add_significance
from evlvideo.comparison.tables.table import Table, build_table
from evlvideo.data.annotation.facts import DATASETS
from evlvideo.errors import UserError
from evlvideo.files import write_json, write_text
from evlvideo.metrics.bootstrap import RESAMPLES
from evlvideo.metrics.names import SUBSET_SCORES
from evlvideo.results.records import NOT_PUBLISHED, EvaluationResult


@dataclass(frozen=True, slots=True)
class Comparison:
    """The table of a comparison and its report."""

    table: Table
    report: Path
    """The HTML page, beside `table.md`, `table.csv`, `table.json` and `table.tex`."""


def compare(
    run_directories: Sequence[Path],
    *,
    out: Path,
    split: str | None = None,
    request: ScoringRequest | None = None,
    against: str | None = None,
    over_seeds: bool = False,
    resamples: int = RESAMPLES,
    gallery_clips: int = 24,
    inspected_clips: int = 3,
    quoted: bool = False,
    seed: int = 0,
    read_frames: FrameReader = decode_frames,
) -> Comparison:
    """Compare evaluated runs and other systems: write a table, and a page with learning curves and a gallery of clips.

    Args:
        run_directories: runs, in the order of their rows.
        out: directory for `report.html` and the tables.
        split: the split that all were scored on, or with its dataset, `msrvtt:test`. Defaults to `test` for runs and
            datasets, and to all clips of a file of references.
        request: what to score beside the runs.
        against: name of the row that the others are tested against. Defaults to the first run.
        over_seeds: whether runs that differ in their seed alone share one row, of their means.
        resamples: resamples of an interval and exchanges of a test.
        gallery_clips: number of clips in the report.
        inspected_clips: number of clips of the gallery on which to show the inside of the models. 0 opens no model.
        quoted: whether to add published numbers for this dataset and split, marked as quoted.
        seed: seed of the gallery, the intervals and the tests.
        read_frames: reads the frames of a clip to show.

    Raises:
        UserError: there is nothing to compare, a run has no evaluation on the split, captions do not match its clips,
            or not all were scored the same way.
    """
    _check_numbers(out, gallery_clips, inspected_clips, resamples)
    gathered = gather_systems(run_directories, split, request or ScoringRequest(), against, over_seeds=over_seeds)
    shown = [group.representative for group in gathered.groups]
    plan = Resampling(gathered.against, resamples, seed)
    table = _build(gathered, plan, quoted)
    gallery = build_gallery(shown, gallery_clips, seed, read_frames)
    page = render_report(table, shown, gallery, _inspect(shown, gallery, inspected_clips))
    _write(out, page, table, shown, plan)
    return Comparison(table, out / "report.html")


def _check_numbers(out: Path, gallery_clips: int, inspected_clips: int, resamples: int) -> None:
    if gallery_clips < 0:
        raise UserError(f"The gallery is to show {gallery_clips} clips; give 0 or more.")
    if inspected_clips < 0:
        raise UserError(f"The models are to be shown on {inspected_clips} clips; give 0 or more.")
    if resamples < 1:
        raise UserError(f"Intervals are to be made of {resamples} resamples; give 1 or more, such as {RESAMPLES}.")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; name a directory for the report.")


def _inspect(systems: Sequence[System], gallery: Gallery, inspected_clips: int) -> Inspection:
    clips = [clip for card in gallery.cards if (clip := gallery.clips.get(card.clip_id))][:inspected_clips]
    if not clips:
        return Inspection()
    from evlvideo.comparison.page.inspect_models import inspect_models

    return inspect_models(systems, clips)


def _build(gathered: Gathered, plan: Resampling, quoted: bool) -> Table:
    groups, result = gathered.groups, gathered.systems[0].result
    rows, significance = add_significance(
        [group_row(group) for group in _in_order(groups)], groups, gathered.words, plan
    )
    rows, counted = add_multiply_adds(rows, [group.representative for group in groups])
    quoted = quoted and not result.deviations
    by_words = result.tokenizer != "characters"
    published = quoted_rows(result.dataset, result.split or "") if quoted and by_words else []
    remarks = [*gathered.remarks, *seed_remarks(groups), *significance, *counted, *_system_remarks(gathered)]
    if quoted and not published:
        remarks.append(f"There are no published numbers to quote for {_split_name(result)}.")
    human = [row for row in rows if row.is_human]
    measured = [row for row in rows if not row.is_human]
    return build_table(_title(result), [*human, *published, *measured], remarks)


def _system_remarks(gathered: Gathered) -> list[str]:
    systems = gathered.systems
    return [
        *_deviation_remarks(systems[0].result),
        *_subset_remarks(systems[0].result),
        *dict.fromkeys(remark for system in systems for remark in system.result.remarks),
        *_part_remarks(systems),
        *_human_remarks(systems),
        *_stage_remarks(systems),
        *training_difference_remarks(gathered.groups),
        *_version_remarks(systems),
    ]


def _in_order(groups: Sequence[SeedGroup]) -> list[SeedGroup]:
    """Sort rows of captions from elsewhere before those of runs."""
    return sorted(groups, key=lambda group: group.representative.regime == "trained")


def _title(result: EvaluationResult) -> str:
    dataset = DATASET_TITLES.get(result.dataset, result.dataset)
    title = f"{dataset}, {result.split} split" if result.split else dataset
    return f"{title} (not the published one, {result.clips_expected:,} clips)" if result.deviations else title


def _split_name(result: EvaluationResult) -> str:
    return f"{result.dataset}:{result.split}" if result.split else result.dataset


def _deviation_remarks(result: EvaluationResult) -> list[str]:
    return [f"{'. '.join(result.deviations)}. {NOT_PUBLISHED}"] if result.deviations else []


def _subset_remarks(result: EvaluationResult) -> list[str]:
    """Say how subsets were scored, unless as they always were."""
    frequencies = result.subset_frequencies
    default = DATASETS[result.dataset].subset_frequencies if result.dataset in DATASETS else "split"
    return [SUBSET_SCORES[frequencies]] if result.evidence_scores and "own" in (frequencies, default) else []


def _part_remarks(systems: Sequence[System]) -> list[str]:
    """Say which runs were trained on a part of their clips."""
    parts = [
        f"{system.name} ({clips:,})"
        for system in systems
        if system.config is not None and (clips := system.config.data.train_clips) is not None
    ]
    return [f"Trained on a part of the training clips (data.train_clips): {', '.join(parts)}."] if parts else []


def _human_remarks(systems: Sequence[System]) -> list[str]:
    if any(system.is_human for system in systems):
        return [
            "human: the first caption of each clip, scored against the others. It has one reference fewer than the "
            "systems, which costs some points, and is not tested against any row."
        ]
    return []


def _stage_remarks(systems: Sequence[System]) -> list[str]:
    if any(system.training.get("stage") == "scst" for system in systems):
        return [
            "Training seconds cover each run alone; a self-critical run comes on top of the run that it starts from."
        ]
    return []


def _version_remarks(systems: Sequence[System]) -> list[str]:
    """List the packages whose versions differ between evaluations. Scores may still agree."""
    packages = sorted(set().union(*(system.result.versions for system in systems)))
    differing = [name for name in packages if len({system.result.versions.get(name) for system in systems}) > 1]
    return [f"Evaluated with different versions of {', '.join(differing)}."] if differing else []


def _scored_on(result: EvaluationResult) -> str:
    references = result.references
    return (
        f"Scored on {_split_name(result)}, {result.clips_expected:,} clips, with {references.captions:,} references "
        f"(digest {references.sha256[:12]}), tokenized by {result.tokenizer}."
    )


def _write(out: Path, page: str, table: Table, systems: Sequence[System], plan: Resampling) -> None:
    result = systems[0].result
    record = {
        "dataset": result.dataset,
        "split": result.split,
        "references": asdict(result.references),
        "tokenizer": result.tokenizer,
        "decoding": result.decoding,
        "certainty": asdict(plan),
        "rows": to_records(table),
        "remarks": list(table.remarks),
    }
    write_text(out / "table.md", to_markdown(table))
    write_text(out / "table.csv", to_csv(table))
    write_json(out / "table.json", record)
    write_text(out / "table.tex", to_latex(table, _scored_on(result)))
    write_text(out / "report.html", page)

"""Compares runs and other systems: writes tables and one report."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evlvideo.comparison.answers import answers_record, answers_scored_on, build_answers
from evlvideo.comparison.page.clip_media import FrameReader, decode_frames
from evlvideo.comparison.page.gallery import Gallery, build_gallery
from evlvideo.comparison.page.inspection import Inspection
from evlvideo.comparison.page.questions import AnswersPart
from evlvideo.comparison.page.report import render_report, split_title
from evlvideo.comparison.rows.answers import AnsweredSet, AnswersRequest, gather_answers, has_answers
from evlvideo.comparison.rows.gather import Gathered, gather_systems
from evlvideo.comparison.rows.quoted import quoted_rows
from evlvideo.comparison.rows.row import group_row
from evlvideo.comparison.rows.runs import evaluated, unique_names
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
    """The tables of a comparison and its report."""

    tables: Sequence[Table]
    """The table of captions, if there are any, and one for each set of questions."""
    report: Path
    """The HTML page. Beside it are `table.md`, `.csv`, `.json` and `.tex` of captions, and
    `answers-DATASET-SPLIT.md` and so on of answers."""
    stems: Sequence[str]
    """Names of the tables' files, without their endings."""

    @property
    def table(self) -> Table:
        """The first table."""
        return self.tables[0]


def compare(
    run_directories: Sequence[Path],
    *,
    out: Path,
    split: str | None = None,
    request: ScoringRequest | None = None,
    answers: AnswersRequest | None = None,
    against: str | None = None,
    over_seeds: bool = False,
    resamples: int = RESAMPLES,
    gallery_clips: int = 24,
    inspected_clips: int = 3,
    quoted: bool = False,
    seed: int = 0,
    read_frames: FrameReader = decode_frames,
) -> Comparison:
    """Compare evaluated runs and other systems: write tables, and a page with learning curves and galleries.

    Captions and answers to questions have tables of their own. Where some runs have only one of them, the others are
    compared in the other; a run must have one.

    Args:
        run_directories: runs, in the order of their rows; directories and result files of answers, too.
        out: directory for `report.html` and the tables.
        split: the split that all captions were scored on, or with its dataset, `msrvtt:test`. Defaults to `test` for
            runs and datasets, and to all clips of a file of references. If given, every run must have captions of it.
        request: what captions to score beside the runs.
        answers: which answers to compare, and what to score beside the runs. Defaults to all that systems share.
        against: name of the row that the others are tested against. Defaults to the first run.
        over_seeds: whether runs that differ in their seed alone share one row, of their means.
        resamples: resamples of an interval and exchanges of a test.
        gallery_clips: number of clips in the report, and of questions of each set.
        inspected_clips: number of clips of the gallery on which to show the inside of the models. 0 opens no model.
        quoted: whether to add published numbers for this dataset and split, marked as quoted.
        seed: seed of the galleries, the intervals and the tests.
        read_frames: reads the frames of a clip to show.

    Raises:
        UserError: there is nothing to compare, a run has no evaluation on the split, captions do not match its clips,
            answers are to different questions, or not all were scored the same way.
    """
    _check_numbers(out, gallery_clips, inspected_clips, resamples)
    request = request or ScoringRequest()
    sets = gather_answers(run_directories, answers or AnswersRequest(), against, over_seeds=over_seeds)
    captioned = _captioned(run_directories, split, sets)
    names, plan = unique_names(run_directories), Resampling(None, resamples, seed)
    written: list[WrittenTable] = []
    page: dict[str, Any] = {}
    if captioned or request or not sets:
        gathered = gather_systems(captioned, split, request, against, over_seeds=over_seeds)
        plan_of_captions = replace(plan, against=gathered.against)
        shown = [group.representative for group in gathered.groups]
        table = _build(gathered, plan_of_captions, quoted, [name for name in names if name not in _names(gathered)])
        gallery = build_gallery(shown, gallery_clips, seed, read_frames)
        page = {"runs": shown, "gallery": gallery, "inspection": _inspect(shown, gallery, inspected_clips)}
        written.append(_written(table, shown[0].result, plan_of_captions))
    parts = build_answers(sets, names, plan, quoted=quoted, shown=gallery_clips, read_frames=read_frames)
    html = render_report(written[0].table if page else None, **page, answers=parts)
    written += [_written_answers(part, plan) for part in parts]
    for each in written:
        each.write(out)
    write_text(out / "report.html", html)
    return Comparison([each.table for each in written], out / "report.html", [each.stem for each in written])


def _captioned(directories: Sequence[Path], split: str | None, sets: Sequence[AnsweredSet]) -> list[Path]:
    """Select the runs whose captions are compared: if no split is named, without those that have answers alone."""
    runs = [path for path in directories if path.is_dir()] if sets else list(directories)
    if split is not None or not sets:
        return runs
    answering = {path for path in directories if has_answers(path)}
    have = evaluated(runs, "test")
    return [run for run in runs if run in have or run not in answering]


def _names(gathered: Gathered) -> set[str]:
    return {system.name for system in gathered.systems}


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


def _build(gathered: Gathered, plan: Resampling, quoted: bool, silent: Sequence[str]) -> Table:
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
    if silent:
        remarks.append(f"Without captions of {_split_name(result)}: {', '.join(silent)}.")
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
    title = split_title(result.dataset, result.split)
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


@dataclass(frozen=True, slots=True)
class WrittenTable:
    """A table, and what its files are called and say."""

    table: Table
    stem: str
    record: dict[str, Any]
    """What the numbers depend on."""
    scored_on: str

    def write(self, out: Path) -> None:
        """Write the files of the table."""
        record = {**self.record, "rows": to_records(self.table), "remarks": list(self.table.remarks)}
        write_text(out / f"{self.stem}.md", to_markdown(self.table))
        write_text(out / f"{self.stem}.csv", to_csv(self.table))
        write_json(out / f"{self.stem}.json", record)
        label = "comparison" if self.stem == "table" else self.stem
        write_text(out / f"{self.stem}.tex", to_latex(self.table, self.scored_on, label))


def _written(table: Table, result: EvaluationResult, plan: Resampling) -> WrittenTable:
    record = {
        "dataset": result.dataset,
        "split": result.split,
        "references": asdict(result.references),
        "tokenizer": result.tokenizer,
        "decoding": result.decoding,
        "certainty": asdict(plan),
    }
    return WrittenTable(table, "table", record, _scored_on(result))


def _written_answers(part: AnswersPart, plan: Resampling) -> WrittenTable:
    answered = part.answered
    stem = f"answers-{answered.dataset}-{answered.split}"
    return WrittenTable(part.table, stem, answers_record(answered, plan), answers_scored_on(answered))

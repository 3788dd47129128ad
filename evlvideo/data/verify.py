"""Check a dataset on disk: counts, splits and files. Downloads and changes nothing."""

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.annotation.facts import DATASETS, DatasetFacts, count_problems, facts_of, media_root
from evlvideo.data.annotation.messages import some
from evlvideo.data.annotation.missing_files import some_missing
from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions.facts import QUESTION_DATASETS, question_count_problems, question_facts
from evlvideo.data.annotation.questions.splits import question_media_root
from evlvideo.data.annotation.readers.text_files import NoAnnotationError
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.guarded import decode_frames_guarded
from evlvideo.errors import UserError
from evlvideo.progress import Progress

MOST_LATE_SECONDS = 1.0
"""By how much a clip may end later than its file; annotations are often rounded up."""
_SIDE = 32
"""Side in pixels of frames that are decoded only as a check."""
_OpenFile = Callable[[Path], float | None]
"""Opens a file; returns when it ends in seconds, if it looked."""


@dataclass(frozen=True, slots=True)
class SplitReport:
    """State of a split on disk."""

    split: str
    """Its name."""
    clips: int
    """Number of clips, or of questions, that the annotation lists."""
    expected_clips: int | None
    """Number of clips that it should list. If None, copies of the dataset differ."""
    captions: int
    """Number of captions of all clips, or of answers."""
    captions_per_clip: tuple[int, int]
    """Smallest and largest number of captions of a clip, or of answers to a question."""
    missing: tuple[str, ...]
    """Missing files, as paths under the media root."""
    empty: tuple[str, ...]
    """Files of zero bytes."""
    unreadable: tuple[str, ...]
    """Files that cannot be opened or, if frames are decoded, have no first frame; with the reason."""
    outside: tuple[str, ...]
    """If frames are decoded: clips of which no part is in their file, with the times of both."""
    late: tuple[str, ...]
    """If frames are decoded: clips that end more than `MOST_LATE_SECONDS` later than their file."""
    units: tuple[str, str] = ("clips", "captions")
    """What is counted: clips with captions, or questions with answers."""
    generated: str = ""
    """How many of the captions models made, and which; empty if people made all."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """State of a dataset on disk, and how to fix its problems."""

    dataset: str
    """Its name."""
    root: Path
    """Its directory."""
    media: Path
    """The directory of its media files."""
    splits: tuple[SplitReport, ...]
    """The splits that can be read."""
    problems: tuple[str, ...]
    """Problems, each with a fix; empty if the dataset is complete."""

    @property
    def complete(self) -> bool:
        """Whether there are no problems."""
        return not self.problems

    def lines(self) -> list[str]:
        """Format the report for a terminal."""
        lines = [f"{self.dataset} in {self.root}, files in {self.media}"]
        lines += [f"  {_summary(split)}" for split in self.splits]
        if self.complete:
            return [*lines, "Complete."]
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return [*lines, f"{count}:", *(f"  - {problem}" for problem in self.problems)]


def verify(
    dataset: str,
    root: Path,
    video_root: Path | None = None,
    *,
    decode: bool = False,
    check_counts: bool = True,
    facts: DatasetFacts | None = None,
    console: Console | None = None,
) -> VerifyReport:
    """Check a dataset on disk.

    Check the counts of clips and captions of every split, and that each file exists, has content and can be opened.
    Check for clips and files that splits share. Optional splits may be absent. Of a dataset of questions, count
    questions and answers; splits other than the one that papers report may be absent. A name may be of both.

    Args:
        dataset: a key of :data:`evlvideo.data.annotation.facts.DATASETS` or of
            :data:`evlvideo.data.annotation.questions.facts.QUESTION_DATASETS`.
        root: directory of the dataset.
        video_root: directory of the video or image files. Defaults to the dataset's folder under `root`.
        decode: whether to decode the first frame of every file, which takes some 10 to 100 ms each, as training
            decodes it, and to compare the times of parts of files with the files.
        check_counts: whether there must be as many clips and captions as the published dataset has.
        facts: facts of the dataset. Defaults to those of its name.
        console: where to draw a progress bar. If None, only lines are logged.

    Raises:
        UserError: the dataset is unknown, or `root` is not a directory. Other problems are in the report.
    """
    if facts is None and dataset not in DATASETS | QUESTION_DATASETS:
        known = ", ".join([*DATASETS, *QUESTION_DATASETS])
        raise UserError(f"The dataset is {dataset!r}; allowed: {known}.")
    if not root.is_dir():
        raise UserError(f"The data root {root} is not a directory; name the one that holds {dataset}.")
    open_file = _first_frame if decode else _opens
    reports = []
    if facts is not None or dataset in DATASETS:
        of_clips = facts or facts_of(dataset)
        reports.append(
            _verify_clips(dataset, of_clips, root, video_root, open_file, check_counts=check_counts, console=console)
        )
    if facts is None and dataset in QUESTION_DATASETS:
        reports.append(
            _verify_questions(dataset, root, video_root, open_file, check_counts=check_counts, console=console)
        )
    splits = tuple(split for report in reports for split in report.splits)
    problems = tuple(problem for report in reports for problem in report.problems)
    return VerifyReport(dataset, root, reports[0].media, splits, problems)


def _verify_clips(
    dataset: str,
    facts: DatasetFacts,
    root: Path,
    video_root: Path | None,
    open_file: _OpenFile,
    *,
    check_counts: bool,
    console: Console | None,
) -> VerifyReport:
    media = media_root(facts, root, video_root)
    problems: list[str] = [] if media.is_dir() else [f"{media} is not a directory; name the one with the files."]
    tables: dict[str, ClipTable] = {}
    reports = []
    for split in facts.clips():
        clips = _read(facts, root, media, split, problems, optional=not check_counts or facts.clips()[split] is None)
        if clips is None:
            continue
        tables[split] = clips
        problems += count_problems(dataset, facts, split, clips, check_counts=check_counts)
        with Progress(f"files of {dataset}:{split}", len(clips), console=console) as progress:
            counted = progress.track(clips)
            reports.append(_check_split(facts, split, clips, counted, media, open_file))
        if media.is_dir():
            problems += _file_problems(dataset, reports[-1], media)
    for split in facts.retrieval_splits:
        # Lists of clips whose files are those of the splits above.
        clips = _read(facts, root, media, split, problems, optional=True)
        if clips is not None:
            problems += count_problems(dataset, facts, split, clips, check_counts=check_counts)
            reports.append(_check_split(facts, split, clips, (), media, open_file))
    if not reports and not problems:
        problems.append(f"There is no annotation of any split in {root}; see datasets/{dataset}/README.md.")
    problems += _overlaps(dataset, tables)
    return VerifyReport(dataset, root, media, tuple(reports), tuple(problems))


def _verify_questions(
    dataset: str,
    root: Path,
    video_root: Path | None,
    open_file: _OpenFile,
    *,
    check_counts: bool,
    console: Console | None,
) -> VerifyReport:
    facts = question_facts(dataset)
    media = question_media_root(facts, root, video_root)
    problems: list[str] = []
    reports = []
    for split, expected in facts.questions.items():
        try:
            questions = tuple(facts.read(root, media, split))
        except NoAnnotationError as error:
            if expected and split == facts.reported_split:
                problems.append(str(error))
            continue
        except UserError as error:
            problems.append(str(error))
            continue
        if not questions and not expected:
            continue
        problems += question_count_problems(dataset, facts, split, questions, check_counts=check_counts)
        with Progress(f"files of {dataset}:{split}", len(questions), console=console) as progress:
            found = _check_files(progress.track(questions), media, open_file)
        reports.append(_questions_report(split, expected, questions, found))
        problems += _file_problems(dataset, reports[-1], media)
    if not reports and not problems:
        problems.append(f"There are no questions of any split in {root}; see datasets/{dataset}/README.md.")
    return VerifyReport(dataset, root, media, tuple(reports), tuple(problems))


def _questions_report(
    split: str, expected: Sequence[int], questions: Sequence[Question], files: "_Files"
) -> SplitReport:
    answers = [len(question.answers) for question in questions]
    # Where there are several forms, the count of the one that this is nearest to.
    nearest = min(expected, key=lambda count: abs(count - len(questions)), default=None)
    each = min(answers, default=0), max(answers, default=0)
    return SplitReport(split, len(questions), nearest, sum(answers), each, *files, units=("questions", "answers"))


def _overlaps(dataset: str, tables: Mapping[str, ClipTable]) -> list[str]:
    """List clips and files that splits share."""
    names: dict[str, Callable[[CaptionedClip], str]] = {
        "clips": lambda clip: clip.clip_id,
        "files": lambda clip: str(clip.video),
    }
    problems = []
    for what, name_of in names.items():
        # Only hashes of millions of names fit into memory; collisions are negligible.
        hashes = {
            split: np.unique(np.fromiter((hash(name_of(clip)) for clip in table), np.int64))
            for split, table in tables.items()
        }
        for first, second in itertools.combinations(tables, 2):
            shared = set(np.intersect1d(hashes[first], hashes[second]).tolist())
            if shared:
                example = next(name for name in map(name_of, tables[second]) if hash(name) in shared)
                problems.append(
                    f"{len(shared)} {what} are in both {dataset}:{first} and {dataset}:{second}, such as {example}; a "
                    "model is then tested on what it has seen; keep each in one split."
                )
    return problems


def _read(
    facts: DatasetFacts, root: Path, media: Path, split: str, problems: list[str], *, optional: bool
) -> ClipTable | None:
    """Read a split; return None if that fails or an optional split is absent."""
    try:
        clips = ClipTable(facts.read(root, media, split))
    except NoAnnotationError as error:
        if not optional:
            problems.append(str(error))
        return None
    except UserError as error:
        problems.append(str(error))
        return None
    return clips if clips or not optional else None


def _check_split(
    facts: DatasetFacts,
    split: str,
    clips: ClipTable,
    counted: Iterable[CaptionedClip],
    media: Path,
    open_file: _OpenFile,
) -> SplitReport:
    files = _check_files(counted, media, open_file)
    captions = clips.caption_counts().tolist()
    each = min(captions, default=0), max(captions, default=0)
    expected, generated = facts.expected_clips(split), clips.generated
    return SplitReport(split, len(clips), expected, sum(captions), each, *files, generated=generated)


class _Files(NamedTuple):
    """What is wrong with files, as in :class:`SplitReport`."""

    missing: tuple[str, ...]
    empty: tuple[str, ...]
    unreadable: tuple[str, ...]
    outside: tuple[str, ...]
    late: tuple[str, ...]


def _check_files(clips: Iterable[CaptionedClip | Question], media: Path, open_file: _OpenFile) -> _Files:
    missing, empty, unreadable = [], [], []
    outside: list[str] = []
    late: list[str] = []
    ends: dict[int, float | None] = {}
    for clip in clips:
        file = clip.video
        # Several clips may be parts of one file, and several questions are about one.
        if hash(file) in ends:
            _compare_times(clip, ends[hash(file)], outside, late)
            continue
        ends[hash(file)] = None
        name = os.path.relpath(file, media)
        try:
            size = file.stat().st_size if file.is_file() else None
            if size is None:
                missing.append(name)
            elif size == 0:
                empty.append(name)
            else:
                ends[hash(file)] = open_file(file)
                _compare_times(clip, ends[hash(file)], outside, late)
        except (DecodeError, OSError) as error:
            unreadable.append(f"{name} ({_reason(file, error)})")
    return _Files(tuple(missing), tuple(empty), tuple(unreadable), tuple(outside), tuple(late))


def _opens(file: Path) -> None:
    with file.open("rb") as opened:
        opened.read(1)


def _first_frame(file: Path) -> float | None:
    """Decode the first frame; return when the file ends in seconds, or None for an image, which is shown at any time.

    As in training: with the same decoder and formats, in a helper process with a time limit.
    """
    first = decode_frames_guarded(file, lambda frames, seconds: [0], _SIDE)
    duration = first.metadata.duration_seconds
    return float(first.timestamps_seconds[0]) + duration if duration else None


def _compare_times(clip: CaptionedClip | Question, file_end: float | None, outside: list[str], late: list[str]) -> None:
    """Note a clip whose times are not in its file."""
    if file_end is None:
        return
    start, end = clip.start_seconds or 0.0, clip.end_seconds
    shown = f"{clip.clip_id} ({start:g} s to {'the end' if end is None else f'{end:g} s'} of {file_end:.2f} s)"
    if start >= file_end:
        outside.append(shown)
    elif end is not None and end > file_end + MOST_LATE_SECONDS:
        late.append(shown)


def _reason(file: Path, error: DecodeError | OSError) -> str:
    """Say what is wrong with a file, without its name."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error).removeprefix(f"{file} cannot be decoded: ").rstrip(".")


def _file_problems(dataset: str, report: SplitReport, media: Path) -> list[str]:
    name = f"{dataset}:{report.split}"
    problems = []
    if report.missing:
        rest = "get the rest, or name the directory that holds them"
        if report.expected_clips is None:
            rest += ", or remove clips without a file from the annotation"
        listed = some_missing(media, report.missing)
        problems.append(f"{len(report.missing)} files of {name} are not in {media}: {listed}; {rest}.")
    if report.empty:
        problems.append(f"{len(report.empty)} files of {name} are empty: {some(report.empty)}; get them again.")
    if report.unreadable:
        problems.append(
            f"{len(report.unreadable)} files of {name} cannot be read: {some(report.unreadable)}; "
            "check permissions, or get them again."
        )
    if report.outside:
        problems.append(
            f"{len(report.outside)} clips of {name} begin after the end of their files: {some(report.outside)}; "
            "correct their times, or leave them out: training treats them as clips that cannot be decoded."
        )
    if report.late:
        problems.append(
            f"{len(report.late)} clips of {name} end later than their files: {some(report.late)}; are these the files "
            "that were annotated, and whole? What there is of them is used."
        )
    return problems


def _summary(report: SplitReport) -> str:
    clips = str(report.clips) if report.expected_clips is None else f"{report.clips} of {report.expected_clips}"
    fewest, most = report.captions_per_clip
    each = f"{fewest} each" if fewest == most else f"{fewest} to {most} each"
    bad = {"missing": report.missing, "empty": report.empty, "unreadable": report.unreadable}
    files = ", ".join(f"{len(names)} {kind}" for kind, names in bad.items() if names) or "all there"
    times = {"outside": report.outside, "beyond the end": report.late}
    parts = "".join(f"; {len(names)} parts {kind}" for kind, names in times.items() if names)
    units, texts = report.units
    made = f", {report.generated}" if report.generated else ""
    return f"{report.split}: {clips} {units}, {report.captions} {texts} ({each}{made}); files: {files}{parts}"

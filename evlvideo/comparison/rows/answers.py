"""Gathers the answers of systems to questions: those of runs, of result files, and of files that are scored here."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from evlvideo.comparison.rows.runs import read_run_config, read_training, trained_here, unique_names
from evlvideo.comparison.rows.scoring import printable
from evlvideo.comparison.rows.seeds import SeedGroup, group_seeds
from evlvideo.comparison.rows.system import differences
from evlvideo.config.run import RunConfig
from evlvideo.data.annotation.questions.facts import question_facts
from evlvideo.errors import UserError, first_ten
from evlvideo.evaluation.score_answers import score_answer_file
from evlvideo.metrics.answers.measures import NAMES, title_of
from evlvideo.results.answer_records import AnswerResult
from evlvideo.results.run_directory import ANSWERS_NAME, RESULT_NAME, SUMMARY_NAME

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AnswersRequest:
    """Which answers to compare, and what to score beside those of runs."""

    questions: str | None = None
    """The dataset, or `DATASET:SPLIT`. Defaults to all questions that every system has answers to."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """System → file of its answers, to be scored here."""
    root: Path | None = None
    """Directory of the dataset. Defaults to where the runs found it."""
    check_counts: bool = True
    """Whether there must be as many questions and answers as published."""


@dataclass(frozen=True, slots=True)
class AnsweringSystem:
    """One system's answers to the questions of a split, and their scores."""

    name: str
    directory: Path | None
    """Directory of the run. `None` for answers from elsewhere."""
    result: AnswerResult
    training: Mapping[str, Any] = field(default_factory=dict)
    """`training.json`. Empty if there is none."""
    regime: Literal["trained", "scored"] = "scored"
    """Whether it was trained here or only scored here."""
    source: str | None = None
    """Origin of the answers of another system."""
    config: RunConfig | None = None
    """Config of the run, if there is one."""

    @property
    def scored(self) -> Collection[str]:
        """Ids of the questions."""
        return self.result.per_question.keys()

    @property
    def expected(self) -> int:
        """Number of the questions."""
        return self.result.questions

    @property
    def comparable(self) -> bool:
        """Whether it pairs with other systems: all of a table answer the same questions."""
        return True


@dataclass(frozen=True, slots=True)
class AnsweredSet:
    """The systems of one table: answers to the same questions, scored by a metric that they share."""

    dataset: str
    split: str
    systems: Sequence[AnsweringSystem]
    groups: Sequence[SeedGroup[AnsweringSystem]]
    """The same, by row."""
    against: str
    """The row that the others are tested against."""

    @property
    def name(self) -> str:
        """What the set is called in commands: `DATASET:SPLIT`."""
        return f"{self.dataset}:{self.split}"

    @property
    def score(self) -> str:
        """The score that the table is sorted out by type with: the first that all systems have."""
        return next(name for name in NAMES if all(name in system.result.scores for system in self.systems))


def gather_answers(
    paths: Sequence[Path], request: AnswersRequest, against: str | None = None, *, over_seeds: bool = False
) -> list[AnsweredSet]:
    """Read the answers of runs and result files, and score those from elsewhere.

    Args:
        paths: directories of runs or of answers, and result files, in the order of their rows. Runs without answers
            are left out.
        request: which questions, and what to score.
        against: the row that the others are tested against. Defaults to the first.
        over_seeds: whether to group runs that differ in their seed alone.

    Returns:
        the questions that all systems have answers to; none if no system has any.

    Raises:
        UserError: systems have no questions in common, those asked for are not answered, or the questions of systems,
            their references or all of their metrics differ; a file cannot be read or scored.
    """
    read = [
        system
        for name, path in zip(unique_names(paths), paths, strict=True)
        for system in _read_answers(name, path, None if request.questions is None else _parsed(request.questions))
    ]
    if request.files:
        read += _score_files(read, request)
    by_set: dict[tuple[str, str], list[AnsweringSystem]] = {}
    for system in read:
        by_set.setdefault((system.result.dataset, system.result.split), []).append(system)
    if request.questions is not None:
        _refuse_unanswered(paths, read, request.questions)
    return [_set(*which, systems, against, over_seeds) for which, systems in _shared(by_set).items()]


def _parsed(questions: str) -> tuple[str, str]:
    dataset, _, split = questions.partition(":")
    facts = question_facts(dataset)
    return dataset, split or facts.reported_split


def has_answers(path: Path) -> bool:
    """Return whether there are results of answers, to whatever questions."""
    return bool(_results(path, "*"))


def _results(path: Path, which: str) -> list[Path]:
    """Find the result files of answers of a run, or of a directory of answers, or the file itself."""
    if path.is_file():
        return [path]
    if (path / RESULT_NAME).is_file():
        return [path / RESULT_NAME]
    return sorted(path.glob(f"{ANSWERS_NAME}/{which}/{RESULT_NAME}"))


def _read_answers(name: str, path: Path, wanted: tuple[str, str] | None) -> list[AnsweringSystem]:
    """Read all answers of a run, or those of a directory of answers, or of a result file."""
    if not path.exists():
        raise UserError(
            f"{path} is neither a directory nor a file; name run directories, such as runs/msrvtt-image, or results of "
            "answers, as `evlvideo score-answers --out` writes them."
        )
    systems = []
    for file in _results(path, "*" if wanted is None else "-".join(wanted)):
        result = _load(file)
        if wanted in (None, (result.dataset, result.split)):
            systems.append(_system(name, path, result))
    return systems


def _load(file: Path) -> AnswerResult:
    try:
        return AnswerResult.load(file)
    except UserError as error:
        raise UserError(f"{error} Answers that are not scored yet are given with --answers NAME=FILE.") from error


def _system(name: str, path: Path, result: AnswerResult) -> AnsweringSystem:
    if path.is_file() or not trained_here(path):
        return AnsweringSystem(name, None, result, source=printable(path), config=None)
    return AnsweringSystem(
        name, path, result, read_training(path / SUMMARY_NAME), "trained", config=read_run_config(path)
    )


def _score_files(read: Sequence[AnsweringSystem], request: AnswersRequest) -> list[AnsweringSystem]:
    """Score files of answers to the questions that are named, or to those of the other systems."""
    dataset, split = _asked(read, request)
    if taken := sorted({system.name for system in read} & request.files.keys()):
        raise UserError(f"{', '.join(taken)} is a system's name already; give the answers another, NAME=FILE.")
    known = (system.result.data for system in read if system.result.dataset == dataset)
    at = next((data for data in known if data.get("root")), {})
    root = request.root or (Path(at["root"]) if at else None)
    if root is None:
        raise UserError(f"Nothing says where {dataset} is; name its directory with --questions-root.")
    check_counts = request.check_counts and bool(at.get("check_counts", True))
    systems = []
    for name, path in request.files.items():
        logger.info("scoring %s on %s:%s", path, dataset, split)
        try:
            result = score_answer_file(path, dataset, root, split, check_counts=check_counts, name=name)
        except UserError as error:
            raise UserError(f"{name} ({path}): {error}") from error
        systems.append(AnsweringSystem(name, None, result, source=printable(path)))
    return systems


def _asked(read: Sequence[AnsweringSystem], request: AnswersRequest) -> tuple[str, str]:
    """Return the dataset and split that files of answers are scored on."""
    if request.questions is not None:
        return _parsed(request.questions)
    sets = dict.fromkeys((system.result.dataset, system.result.split) for system in read)
    if len(sets) != 1:
        known = ", ".join(":".join(which) for which in sets)
        raise UserError(
            f"The answers of {', '.join(request.files)} are to be scored, but on "
            + (f"which questions? Name one of {known}" if sets else "no questions; name them")
            + " with --questions DATASET:SPLIT, and their directory with --questions-root."
        )
    return next(iter(sets))


def _refuse_unanswered(paths: Sequence[Path], read: Sequence[AnsweringSystem], questions: str) -> None:
    dataset, split = _parsed(questions)
    answered = {system.name for system in read}
    missing = [path for name, path in zip(unique_names(paths), paths, strict=True) if name not in answered]
    if missing:
        files = [str(path) for path in missing if path.is_file()]
        commands = [
            f"  evlvideo evaluate-answers {path} --dataset {dataset} --split {split} --root DIR"
            for path in missing
            if not path.is_file()
        ]
        raise UserError(
            f"{len(missing)} of {len(paths)} systems have no answers to {dataset}:{split}. "
            + (f"Leave out {first_ten(files)}. " if files else "")
            + ("Answer them first:\n" + "\n".join(commands) if commands else "")
        )


def _shared(
    by_set: Mapping[tuple[str, str], Sequence[AnsweringSystem]],
) -> dict[tuple[str, str], Sequence[AnsweringSystem]]:
    """Keep the questions that every system with answers has answers to."""
    everyone = {system.name for systems in by_set.values() for system in systems}
    shared = {which: systems for which, systems in by_set.items() if {one.name for one in systems} == everyone}
    if by_set and not shared:
        listed = "\n".join(
            f"  - {':'.join(which)}: {', '.join(system.name for system in systems)}"
            for which, systems in by_set.items()
        )
        raise UserError(
            f"These systems answered different questions, so their numbers do not belong in one table:\n{listed}\n"
            "Name questions that they share with --questions DATASET:SPLIT, or compare those that agree."
        )
    return shared


def _set(
    dataset: str, split: str, systems: Sequence[AnsweringSystem], against: str | None, over_seeds: bool
) -> AnsweredSet:
    # Facts of the whole table come from the first.
    systems = sorted(systems, key=lambda system: system.regime != "trained")
    _check_alike(f"{dataset}:{split}", systems)
    groups = group_seeds(systems) if over_seeds else [SeedGroup.of_one(system) for system in systems]
    names = [group.name for group in groups]
    if against not in (None, *names):
        raise UserError(f"--against {against!r} is no row of {dataset}:{split}; allowed: {', '.join(names)}.")
    return AnsweredSet(dataset, split, systems, groups, against or names[0])


def _check_alike(questions: str, systems: Sequence[AnsweringSystem]) -> None:
    """Check that systems answered the same questions, and share a metric.

    Raises:
        UserError: otherwise. Lists every difference with the systems on either side.
    """
    metrics = [set(system.result.scores) for system in systems]
    facts: dict[str, dict[str, Any]] = {
        "questions": {system.name: f"{system.result.questions:,}" for system in systems},
        "references' digest": {system.name: system.result.references.sha256[:12] for system in systems},
    }
    if not set.intersection(*metrics):
        facts["metric"] = {
            system.name: ", ".join(title_of(name) for name in NAMES if name in system.result.scores)
            for system in systems
        }
    if found := differences(facts):
        raise UserError(
            f"The answers to {questions} were not scored alike, so their numbers do not belong in one table:\n"
            + "\n".join(found)
            + "\nScore them on the same questions by the same metric, or compare those that agree."
        )

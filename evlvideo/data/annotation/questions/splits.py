"""Read the questions of datasets by name and split, and check their counts and files."""

import os
from collections.abc import Sequence
from pathlib import Path

from evlvideo.data.annotation.missing_files import some_missing
from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions.facts import QuestionFacts, question_count_problems, question_facts
from evlvideo.errors import UserError


def read_questions(
    dataset: str,
    split: str,
    root: Path,
    media_root: Path | None = None,
    *,
    check_counts: bool = True,
    check_files: bool = True,
) -> Sequence[Question]:
    """Read the questions of a split, in the order of the annotation.

    Args:
        dataset: a key of :data:`evlvideo.data.annotation.questions.facts.QUESTION_DATASETS`.
        split: one of its splits; `reported_split` of its facts is the one that papers report.
        root: directory of the dataset.
        media_root: directory of the images or videos. Defaults to the dataset's folder under `root`.
        check_counts: whether there must be as many questions and answers as published.
        check_files: whether every file must exist.

    Raises:
        UserError: the dataset or split is unknown, an annotation file is missing or malformed, or of another split than
            the questions, a count is wrong, or files are missing.
    """
    facts = question_facts(dataset)
    if split not in facts.questions:
        raise UserError(f"The dataset {dataset!r} has no split {split!r}; allowed: {', '.join(facts.questions)}.")
    media = question_media_root(facts, root, media_root)
    questions = tuple(facts.read(root, media, split))
    for problem in question_count_problems(dataset, facts, split, questions, check_counts=check_counts):
        raise UserError(problem)
    if check_files:
        _check_files(questions, media)
    return questions


def question_media_root(facts: QuestionFacts, root: Path, media_root: Path | None) -> Path:
    """Return `media_root` or, if it is None, the first media folder under the root that exists."""
    if media_root is not None:
        return media_root
    folders = [root / name for name in facts.media_folders]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _check_files(questions: Sequence[Question], media: Path) -> None:
    files = dict.fromkeys(question.video for question in questions)
    missing = [os.path.relpath(file, media) for file in files if not file.exists()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(files)} files that questions are about are not in {media}: "
            f"{some_missing(media, missing)}. Download the rest, or name the directory that holds them."
        )

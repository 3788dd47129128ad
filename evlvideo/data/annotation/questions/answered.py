"""Questions to train on: as clips whose captions are the answers."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions.splits import read_questions
from evlvideo.errors import UserError


def read_answered(
    dataset: str,
    split: str,
    root: Path,
    media_root: Path | None = None,
    check_files: bool = True,
    *,
    check_counts: bool = True,
) -> ClipTable:
    """Read a split of questions as clips, one for each question that has an answer.

    Args:
        dataset: see :func:`~evlvideo.data.annotation.questions.splits.read_questions`.
        split: likewise.
        root: likewise.
        media_root: likewise.
        check_files: likewise.
        check_counts: likewise.

    Returns:
        clips with the questions' ids. Their captions are all answers that are not blank, also equal ones, so that
        people's answers weigh as often as they were given.

    Raises:
        UserError: as there, or no question has an answer.
    """
    questions = read_questions(dataset, split, root, media_root, check_counts=check_counts, check_files=check_files)
    clips = ClipTable(_clips(questions))
    if not clips:
        raise UserError(
            f"{dataset}:{split} has questions without answers, which nothing can be trained on; name another split."
        )
    return clips


def _clips(questions: Sequence[Question]) -> Iterator[CaptionedClip]:
    for one in questions:
        answers = tuple(answer for answer in one.answers if answer.strip())
        if answers:
            yield CaptionedClip(
                one.question_id,
                one.video,
                answers,
                start_seconds=one.start_seconds,
                end_seconds=one.end_seconds,
                question=one.text,
            )

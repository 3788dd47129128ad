"""VQAv2 and OK-VQA: one file of questions and, of splits with answers, one of annotations; images of COCO.

Questions are `{"data_subtype", "questions": [{"question_id", "image_id", "question"}]}`, annotations `{"data_subtype",
"annotations": [{"question_id", "image_id", "answers": [{"answer"}], "answer_type", "question_type"}]}`.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from evlvideo.data.annotation.messages import shown, some
from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions.fields import answer_text, optional_text, question_name, question_text
from evlvideo.data.annotation.readers.fields import media_file, needed
from evlvideo.data.annotation.readers.json_stream import stream_objects
from evlvideo.data.annotation.readers.text_files import find_file
from evlvideo.errors import UserError


@dataclass(frozen=True, slots=True)
class Part:
    """Where a split lies."""

    name: str
    """Its name in file names, such as `val2014`."""
    images: str
    """Folder of its images, and part of their names."""
    answered: bool = True
    """Whether it has annotations."""


VQAV2 = {
    "train": Part("train2014", "train2014"),
    "validate": Part("val2014", "val2014"),
    "test": Part("test2015", "test2015", answered=False),
    "test_dev": Part("test-dev2015", "test2015", answered=False),
}
OKVQA = {"train": Part("train2014", "train2014"), "test": Part("val2014", "val2014")}
"""OK-VQA's test questions are about COCO's validation images."""
MINI_IMAGES = {
    "train": Part("train2014", "train2014"),
    "validate": Part("val2014", "val2014"),
    "test": Part("test2015", "test2015"),
}
"""Those of the rendered images, which have answers to all splits."""


class _Annotation(NamedTuple):
    image: Any
    answers: tuple[str, ...]
    answer_type: str | None
    question_type: str | None


def read(root: Path, media_root: Path, split: str, *, parts: dict[str, Part], prefix: str) -> Iterator[Question]:
    """Read a split.

    Args:
        root: directory of the dataset.
        media_root: directory that holds the images' folders.
        split: one of `parts`.
        parts: where the splits lie.
        prefix: how file names begin: `v2_`, or nothing.

    Raises:
        UserError: a file is missing or malformed, or the questions and annotations are not of one split.
    """
    part = parts[split]
    path = find_file(root, f"{prefix}OpenEnded_mscoco_{part.name}_questions.json")
    annotated, annotations = None, {}
    facts: dict[str, Any] = {}
    if part.answered:
        annotated = find_file(root, f"{prefix}mscoco_{part.name}_annotations.json")
        of_annotations: dict[str, Any] = {}
        annotations = _annotations(annotated, of_annotations)
    entries = list(_questions(path, media_root, part, facts))
    if annotated is None:
        yield from (question for _, _, question in entries)
        return
    _check_one_split(path, facts.get("data_subtype"), annotated, of_annotations.get("data_subtype"))
    _check_ids(path, annotated, [question.question_id for _, _, question in entries], annotations)
    for place, image, question in entries:
        yield _answered(place, image, question, annotated, annotations[question.question_id])


def _questions(path: Path, media_root: Path, part: Part, facts: dict[str, Any]) -> Iterator[tuple[str, int, Question]]:
    """Yield the place, the image and the question of each entry. Questions about one image share its path."""
    files: dict[int, tuple[str, Path]] = {}
    for _, place, entry in stream_objects(path, "questions", others=facts):
        image = needed(place, entry, "image_id")
        if isinstance(image, bool) or not isinstance(image, int) or not 0 <= image < 10**12:
            raise UserError(f"{place}: the image_id is {shown(image)}; it is a whole number.")
        if image not in files:
            file = media_file(place, media_root, f"{part.images}/COCO_{part.images}_{image:012}.jpg")
            files[image] = str(image), file
        question_id = question_name(place, needed(place, entry, "question_id"))
        yield place, image, Question(question_id, files[image][0], question_text(place, entry), files[image][1])


def _annotations(path: Path, facts: dict[str, Any]) -> dict[str, _Annotation]:
    annotations: dict[str, _Annotation] = {}
    for _, place, entry in stream_objects(path, "annotations", others=facts):
        question_id = question_name(place, needed(place, entry, "question_id"))
        if question_id in annotations:
            raise UserError(f"{place}: the question {question_id} is listed a second time; get the file again.")
        answers = needed(place, entry, "answers")
        if not isinstance(answers, list) or not all(isinstance(answer, dict) for answer in answers):
            raise UserError(f"{place} has no list of answers; get the file again.")
        annotations[question_id] = _Annotation(
            needed(place, entry, "image_id"),
            # Millions of answers are some ten thousand different texts.
            tuple(sys.intern(answer_text(place, needed(place, answer, "answer"))) for answer in answers),
            _interned(optional_text(place, entry, "answer_type")),
            _interned(optional_text(place, entry, "question_type")),
        )
    return annotations


def _check_one_split(questions: Path, part: Any, annotations: Path, of_annotations: Any) -> None:
    if part is not None and of_annotations is not None and part != of_annotations:
        raise UserError(
            f"{questions} holds the questions of {part}, and {annotations} the annotations of {of_annotations}; take "
            "both files of one split."
        )


def _check_ids(questions: Path, annotated: Path, ids: list[str], annotations: dict[str, _Annotation]) -> None:
    bare = [question_id for question_id in ids if question_id not in annotations]
    extra = annotations.keys() - set(ids)
    if bare:
        raise UserError(
            f"{annotated} has no annotation of {some(bare)}, of {len(ids)} questions in {questions}; take both files "
            "of one split."
        )
    if extra:
        raise UserError(
            f"{annotated} has annotations of {some(sorted(extra))}, which are not in {questions}; take both files of "
            "one split."
        )


def _answered(place: str, image: int, question: Question, annotated: Path, annotation: _Annotation) -> Question:
    if annotation.image != image:
        raise UserError(
            f"{place}: the question {question.question_id} is about image {image}, and in {annotated} about "
            f"{shown(annotation.image)}; take both files of one split."
        )
    return Question(
        question.question_id,
        question.clip_id,
        question.text,
        question.video,
        annotation.answers,
        annotation.answer_type,
        annotation.question_type,
    )


def _interned(text: str | None) -> str | None:
    return None if text is None else sys.intern(text)

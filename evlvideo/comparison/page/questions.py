"""Samples questions for the page, each with its image, the annotators' answers, and every system's answer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evlvideo.comparison.page.clip_media import ByteBudget, ClipMedia, FrameReader, gather_media
from evlvideo.comparison.page.gallery import as_many_as_fit, choose_clips, missing_images, shown_text
from evlvideo.comparison.rows.answers import AnsweredSet, AnsweringSystem
from evlvideo.comparison.tables.table import Table
from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions.splits import read_questions
from evlvideo.errors import UserError
from evlvideo.metrics.answers.measures import NAMES, title_of
from evlvideo.metrics.names import format_score

MEDIA_BYTES = 1_500_000
"""Upper bound on the bytes of images and preview clips of all questions on a page."""


@dataclass(frozen=True, slots=True)
class ShownAnswer:
    """The answer of one system to a question."""

    name: str
    """Of the system."""
    text: str | None
    """`None` if the system's result does not hold it."""
    score: float | None
    """A fraction, of the first metric that applies to the question."""
    scores: str
    """All scores, with their names."""


@dataclass(frozen=True, slots=True)
class QuestionCard:
    """One question of the page."""

    question_id: str
    text: str
    """The question. Empty if its annotation cannot be read."""
    kind: str
    """Answer type, or else question type. Empty if the question has neither."""
    media: ClipMedia
    answers: tuple[ShownAnswer, ...]
    references: tuple[tuple[str, int], ...]
    """Answers of annotators and how many gave them, the most frequent first."""

    @property
    def spread(self) -> float:
        """Range of the systems' scores."""
        scores = [answer.score for answer in self.answers if answer.score is not None]
        return max(scores) - min(scores) if scores else 0.0


@dataclass(frozen=True, slots=True)
class QuestionGallery:
    """The sample of one set of questions."""

    cards: tuple[QuestionCard, ...]
    remarks: tuple[str, ...]

    @property
    def cards_by_kind(self) -> dict[str, int]:
        """Number of cards of each kind, by name."""
        return dict(sorted(Counter(card.kind for card in self.cards if card.kind).items()))


@dataclass(frozen=True, slots=True)
class AnswersPart:
    """What the page shows of the answers to one set of questions."""

    answered: AnsweredSet
    table: Table
    gallery: QuestionGallery

    @property
    def systems(self) -> list[AnsweringSystem]:
        """The systems whose answers are shown, in the order of the scores of a card."""
        return [group.representative for group in self.answered.groups]


def build_question_gallery(
    answered: AnsweredSet, count: int, seed: int, read_frames: FrameReader, budget: ByteBudget
) -> QuestionGallery:
    """Sample questions, and gather their answers and images.

    If annotations or files cannot be read, a remark replaces questions or images.

    Args:
        answered: the systems.
        count: number of questions.
        seed: seed of the sample.
        read_frames: reads the frames of a clip, or an image.
        budget: bytes left for images.
    """
    systems = [group.representative for group in answered.groups]
    questions, remarks = _read(answered) if count else ({}, [])
    kinds = {name: _kind(questions[name]) if name in questions else "" for name in systems[0].scored}

    def texts(name: str) -> tuple[list[str], Sequence[str]]:
        asked = (questions[name].text, *questions[name].answers) if name in questions else ()
        return [system.result.answers.get(name, "") for system in systems], asked

    chosen, left_out = as_many_as_fit(choose_clips(kinds, count, seed), texts, "questions")
    clips = {name: _clip(questions[name]) for name in chosen if name in questions}
    media = gather_media(list(clips.values()), budget, read_frames)
    cards = [
        _card(name, kinds[name], questions.get(name), media.get(name, ClipMedia()), systems, answered.score)
        for name in chosen
    ]
    silent = [system.name for system in systems if not system.result.answers]
    if silent and chosen:
        remarks.append(f"Not the answers of {', '.join(silent)}: an older version wrote the result; score it again.")
    return QuestionGallery(tuple(cards), (*remarks, *left_out, *missing_images(list(media.values()), "questions")))


def _read(answered: AnsweredSet) -> tuple[dict[str, Question], list[str]]:
    """Read the questions by id, through the first system that says where they are."""
    data = next((system.result.data for system in answered.systems if system.result.data.get("root")), None)
    if data is None:
        return {}, ["No result says where its questions are, so they are shown without text, images and references."]
    media_root = data.get("media_root")
    try:
        questions = read_questions(
            answered.dataset,
            answered.split,
            Path(data["root"]),
            Path(media_root) if media_root else None,
            check_counts=False,
            check_files=False,
        )
    except UserError as error:
        return {}, [f"The questions cannot be read, so they are shown without text, images and references. {error}"]
    return {question.question_id: question for question in questions}, []


def _kind(question: Question) -> str:
    return question.answer_type or question.question_type or ""


def _clip(question: Question) -> CaptionedClip:
    return CaptionedClip(
        question.question_id,
        question.video,
        (),
        start_seconds=question.start_seconds,
        end_seconds=question.end_seconds,
    )


def _card(
    name: str,
    kind: str,
    question: Question | None,
    media: ClipMedia,
    systems: Sequence[AnsweringSystem],
    score: str,
) -> QuestionCard:
    counted = Counter(map(shown_text, question.answers)) if question is not None else Counter[str]()
    return QuestionCard(
        question_id=name,
        text=shown_text(question.text) if question is not None else "",
        kind=kind,
        media=media,
        answers=tuple(_answer(name, system, score) for system in systems),
        references=tuple(counted.most_common()),
    )


def _answer(name: str, system: AnsweringSystem, score: str) -> ShownAnswer:
    found = system.result.per_question[name]
    first = next((key for key in (score, *NAMES) if key in found), None)
    text = system.result.answers.get(name)
    return ShownAnswer(
        name=system.name,
        text=None if text is None else shown_text(text),
        score=None if first is None else found[first],
        scores=", ".join(f"{title_of(key)} {format_score(found[key])}" for key in NAMES if key in found),
    )

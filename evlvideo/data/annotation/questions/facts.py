"""Facts about each dataset of questions: its splits, their counts, its reader and its metrics."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evlvideo.data.annotation.messages import some
from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions import gqa, jsonl, pathvqa, video_qa, vqa
from evlvideo.errors import UserError
from evlvideo.metrics.answers.scores import AnswerMetric

QuestionReader = Callable[[Path, Path, str], Iterable[Question]]
"""Takes the root of a dataset, the root of its media files and a split; returns the split's questions in order."""


@dataclass(frozen=True, slots=True)
class QuestionFacts:
    """Facts about a complete dataset, its reader, and how its answers are scored."""

    read: QuestionReader
    """Reads a split."""
    questions: Mapping[str, tuple[int, ...]]
    """The number of questions of each split, one for each published form; none if copies differ."""
    answers_per_question: int | None
    """Number of answers of every question of a split with answers. If None, questions differ."""
    reported_split: str
    """The split that papers report."""
    metrics: tuple[AnswerMetric, ...]
    """The metrics that papers report, the first as its default."""
    media_folders: tuple[str, ...]
    """Folders of the media files under the root; the first that exists is used."""
    unanswered: tuple[str, ...] = ()
    """Splits without answers, which only the dataset's server scores."""
    lemmas: bool = False
    """Whether predictions are reported with lemmas too."""
    result_keys: tuple[str, str] = ("question_id", "answer")
    """Keys of the question and of the answer in files of results."""


QUESTION_DATASETS: dict[str, QuestionFacts] = {
    "vqav2": QuestionFacts(
        partial(vqa.read, parts=vqa.VQAV2, prefix="v2_"),
        {"train": (443_757,), "validate": (214_354,), "test": (447_793,), "test_dev": (107_394,)},
        answers_per_question=10,
        reported_split="validate",
        metrics=("vqa", "vqa_lavis"),
        media_folders=("images", "."),
        unanswered=("test", "test_dev"),
    ),
    "okvqa": QuestionFacts(
        partial(vqa.read, parts=vqa.OKVQA, prefix=""),
        {"train": (9_009,), "test": (5_046,)},
        answers_per_question=10,
        reported_split="test",
        metrics=("vqa", "vqa_lavis"),
        media_folders=("images", "."),
        lemmas=True,
    ),
    "gqa": QuestionFacts(
        gqa.read,
        {"train": (943_000,), "validate": (132_062,), "test_dev": (12_578,)},
        answers_per_question=1,
        reported_split="test_dev",
        metrics=("gqa",),
        media_folders=("images",),
        result_keys=("questionId", "prediction"),
    ),
    "pathvqa": QuestionFacts(
        pathvqa.read,
        {"train": (19_755, 19_654), "validate": (6_279, 6_259), "test": (6_761, 6_719)},
        answers_per_question=1,
        reported_split="test",
        metrics=("pathvqa",),
        media_folders=("images", "pvqa/images"),
    ),
    "msrvtt_qa": QuestionFacts(
        video_qa.read_msrvtt,
        {"train": (158_581,), "validate": (12_278,), "test": (72_821,)},
        answers_per_question=1,
        reported_split="test",
        metrics=("exact",),
        media_folders=("videos",),
    ),
    "msvd_qa": QuestionFacts(
        video_qa.read_msvd,
        {"train": (30_933,), "validate": (6_415,), "test": (13_157,)},
        answers_per_question=1,
        reported_split="test",
        metrics=("exact",),
        media_folders=("videos", "YouTubeClips", "video"),
    ),
    "mini_images": QuestionFacts(
        partial(vqa.read, parts=vqa.MINI_IMAGES, prefix="v2_"),
        dict.fromkeys(vqa.MINI_IMAGES, ()),
        answers_per_question=10,
        reported_split="test",
        metrics=("vqa", "vqa_lavis"),
        media_folders=("images",),
    ),
    "jsonl_qa": QuestionFacts(
        jsonl.read,
        dict.fromkeys(jsonl.SPLITS, ()),
        answers_per_question=None,
        reported_split="test",
        metrics=("exact",),
        media_folders=(".",),
    ),
}
"""Datasets of questions by name."""

OWN_QUESTIONS = (
    "If these are a part of the dataset, say so with --no-check-counts (data.check_counts=false in a config); your own "
    "questions go into a questions.jsonl, which has no fixed counts (the dataset jsonl_qa)."
)
"""What to do about counts that are meant."""


def question_facts(dataset: str) -> QuestionFacts:
    """Look up the facts of a dataset of questions.

    Raises:
        UserError: it is unknown.
    """
    if dataset not in QUESTION_DATASETS:
        raise UserError(f"The dataset of questions is {dataset!r}; allowed: {', '.join(QUESTION_DATASETS)}.")
    return QUESTION_DATASETS[dataset]


def question_count_deviations(
    dataset: str, facts: QuestionFacts, split: str, questions: Sequence[Question]
) -> list[str]:
    """List how the counts of a split differ from those of the published dataset. Empty if they do not."""
    name, found, expected = f"{dataset}:{split}", [], facts.questions[split]
    if expected and len(questions) not in expected:
        published = " or ".join(map(str, expected))
        found.append(f"The annotation lists {len(questions)} questions of {name}, which has {published}")
    each = 0 if split in facts.unanswered else facts.answers_per_question
    uneven = [] if each is None else [one.question_id for one in questions if len(one.answers) != each]
    if uneven:
        found.append(f"The annotation does not have {each} answers to {some(uneven)} of {name}")
    return found


def question_count_problems(
    dataset: str, facts: QuestionFacts, split: str, questions: Sequence[Question], *, check_counts: bool
) -> Iterator[str]:
    """Yield a message for each duplicate id and each wrong count of questions or answers."""
    if not questions:
        yield f"The annotation lists no questions of {dataset}:{split}; add some, or name another split."
        return
    listed = Counter(question.question_id for question in questions)
    twice = [question_id for question_id, count in listed.items() if count > 1]
    if twice:
        yield f"The annotation lists {some(twice)} of {dataset}:{split} more than once; keep one of each."
    if check_counts:
        for deviation in question_count_deviations(dataset, facts, split, questions):
            yield f"{deviation}; get the official file again. {OWN_QUESTIONS}"

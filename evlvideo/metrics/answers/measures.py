"""Scores of one answer, by metric. Each returns name → score, a fraction, for the names that apply to the question."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Protocol

from evlvideo.errors import UserError
from evlvideo.metrics.answers.normalization import normalized, one_line, without_punctuation

ANNOTATORS = 10
"""Annotators of a question in VQA, which its accuracy counts on."""
YES_NO = frozenset({"yes", "no"})

_WORD = re.compile(r"[^\W_]+")


class AnsweredQuestion(Protocol):
    """What is needed of a question, such as an `evlvideo.data.annotation.question.Question`."""

    @property
    def question_id(self) -> str:
        """Its id."""

    @property
    def answers(self) -> tuple[str, ...]:
        """The answers of all annotators."""

    @property
    def answer_type(self) -> str | None:
        """What the answer is."""

    @property
    def question_type(self) -> str | None:
        """What is asked."""


def vqa(answer: str, question: AnsweredQuestion) -> dict[str, float]:
    """Score by VQA's accuracy, as its evaluator of 2021 does.

    Answer and references are normalized, but only if the references are not all equal. Otherwise they are compared as
    they are, so that `Yes` is wrong where ten people wrote `yes`.

    Raises:
        UserError: the question has not ten answers.
    """
    answer, references = one_line(answer), [one_line(text) for text in _of_ten(question)]
    if len(set(references)) > 1:
        answer, references = normalized(answer), [normalized(text) for text in references]
    return {"vqa_accuracy": consensus(answer, references)}


def vqa_lavis(answer: str, question: AnsweredQuestion) -> dict[str, float]:
    """Score by VQA's accuracy, as LAVIS's older copy of the evaluator does.

    The answer is always normalized; references lose their punctuation, and only if they are not all equal.

    Raises:
        UserError: the question has not ten answers.
    """
    references: Sequence[str] = _of_ten(question)
    if len(set(references)) > 1:
        references = [_without_punctuation(text) for text in references]
    return {"vqa_accuracy_lavis": consensus(normalized(one_line(answer)), references)}


def consensus(answer: str, references: Sequence[str]) -> float:
    """Return the mean over annotators of min(1, matches among the others / 3).

    Annotators are told apart by their place, so that equal records of two count twice.
    """
    return _consensus(references.count(answer), len(references))


@cache
def _consensus(matches: int, annotators: int) -> float:
    thirds = matches * min(3, matches - 1) + (annotators - matches) * min(3, matches)
    return thirds / (3 * annotators)


def gqa(answer: str, question: AnsweredQuestion) -> dict[str, float]:
    """Score by GQA's accuracy, as LAVIS does: the normalized answer equals the reference as it is.

    The share of right answers to binary and to open questions is known where the annotation has types.

    Raises:
        UserError: the question has not one answer.
    """
    if len(question.answers) != 1:
        raise _wrong_number(question, "GQA's accuracy", "one", "vqa or exact")
    right = float(normalized(answer) == question.answers[0])
    kind = {} if question.answer_type is None else {f"gqa_{question.answer_type}": right}
    return {"gqa_accuracy": right} | kind


def pathvqa(answer: str, question: AnsweredQuestion) -> dict[str, float]:
    """Score closed questions, whose reference is yes or no, by accuracy, and open ones by their words.

    The whole answer to a closed question is compared: `no` inside another word or before further ones is not right.
    Words are compared in lower case, without punctuation: exact match in order, F1 and recall as bags.

    Raises:
        UserError: the question has not one answer.
    """
    if len(question.answers) != 1:
        raise _wrong_number(question, "PathVQA's scores", "one", "vqa or exact")
    given, wanted = (_WORD.findall(text.lower()) for text in (answer, question.answers[0]))
    if len(wanted) == 1 and wanted[0] in YES_NO:
        return {"closed_accuracy": float(given == wanted)}
    common = (Counter(given) & Counter(wanted)).total()
    words = len(given) + len(wanted)
    return {
        "open_exact_match": float(given == wanted),
        "open_word_f1": 2 * common / words if words else 1.0,
        "open_word_recall": common / len(wanted) if wanted else float(not given),
    }


def exact(answer: str, question: AnsweredQuestion) -> dict[str, float]:
    """Score whether the answer equals any reference, in lower case and without outer spaces and a final period."""
    return {"exact_match": float(_plain(answer) in map(_plain, question.answers))}


MEASURES: dict[str, Callable[[str, AnsweredQuestion], dict[str, float]]] = {
    "vqa": vqa,
    "vqa_lavis": vqa_lavis,
    "gqa": gqa,
    "pathvqa": pathvqa,
    "exact": exact,
}
"""Metrics by name."""
TITLES = {
    "vqa_accuracy": "VQA accuracy (official)",
    "vqa_accuracy_lavis": "VQA accuracy (LAVIS)",
    "gqa_accuracy": "GQA accuracy",
    "gqa_binary": "GQA binary",
    "gqa_open": "GQA open",
    "closed_accuracy": "closed accuracy",
    "open_exact_match": "open exact match",
    "open_word_f1": "open word F1",
    "open_word_recall": "open word recall",
    "exact_match": "exact match",
}
"""Score → its name in print, in the order of tables."""


def _of_ten(question: AnsweredQuestion) -> tuple[str, ...]:
    if len(question.answers) != ANNOTATORS:
        raise _wrong_number(question, "VQA accuracy", "ten", "exact")
    return question.answers


def _wrong_number(question: AnsweredQuestion, metric: str, needed: str, others: str) -> UserError:
    return UserError(
        f"Question {question.question_id} has {len(question.answers)} answers, and {metric} needs {needed}; get the "
        f"official annotation, or score with the metric {others}."
    )


@lru_cache(maxsize=1 << 16)
def _without_punctuation(text: str) -> str:
    return without_punctuation(text)


@lru_cache(maxsize=1 << 16)
def _plain(text: str) -> str:
    return " ".join(text.lower().split()).removesuffix(".").rstrip()

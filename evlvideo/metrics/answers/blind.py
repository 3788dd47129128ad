"""Answers without a look at the picture: what a question's type alone tells."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from evlvideo.metrics.answers.measures import AnsweredQuestion


def blind_answers(trained: Sequence[AnsweredQuestion], asked: Sequence[AnsweredQuestion]) -> dict[str, str]:
    """Answer each question by the most frequent answer to training questions of its type.

    That of VQAv2's question type, or of all questions for a type that training does not have. Of equally frequent
    answers, the first in the alphabet.

    Args:
        trained: questions with answers.
        asked: the questions to answer.

    Returns:
        question → answer.
    """
    counts: dict[str | None, Counter[str]] = defaultdict(Counter)
    everywhere: Counter[str] = Counter()
    for question in trained:
        counts[question.question_type].update(question.answers)
        everywhere.update(question.answers)
    best = {kind: _first(counted) for kind, counted in counts.items()}
    return {question.question_id: best.get(question.question_type) or _first(everywhere) for question in asked}


def _first(counted: Counter[str]) -> str:
    return min(counted, key=lambda answer: (-counted[answer], answer), default="")

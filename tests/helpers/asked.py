"""Questions without a file, for metrics."""

from pathlib import Path

from evlvideo.data.annotation.question import Question


def asked(
    question_id: str, answers: tuple[str, ...], answer_type: str | None = None, question_type: str | None = None
) -> Question:
    """A question about nothing."""
    return Question(question_id, "clip", "what is it?", Path("clip.jpg"), answers, answer_type, question_type)

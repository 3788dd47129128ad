"""Scores of answers to questions."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

AnswerMetric = Literal["vqa", "vqa_lavis", "gqa", "pathvqa", "exact"]
Lemmatizer = Literal["none", "spacy"]


class AnsweredQuestion(Protocol):
    """What is needed of a question, such as `evlvideo.data.annotation.question.Question`."""

    @property
    def question_id(self) -> str: ...
    @property
    def answers(self) -> tuple[str, ...]: ...
    @property
    def answer_type(self) -> str | None: ...
    @property
    def question_type(self) -> str | None: ...


@dataclass(frozen=True)
class AnswerScores:
    """Scores of one system's answers. Scores are fractions: 0.74 is what papers print as 74.0."""

    metric: str
    """The metric as requested, such as `vqa_lavis`."""
    lemmatizer: str
    """What the answers passed through before scoring: `none` or `spacy`."""
    overall: dict[str, float]
    """Name of a score → its mean over the questions that it applies to."""
    per_question: dict[str, dict[str, float]]
    """Question → name → score; without the names that do not apply to the question."""
    answer_types: dict[str, dict[str, float]] = field(default_factory=dict)
    """Answer type → name → mean over its questions."""
    question_types: dict[str, dict[str, float]] = field(default_factory=dict)
    """Question type → name → mean over its questions."""


def score_answers(
    predictions: Mapping[str, str],
    questions: Sequence[AnsweredQuestion],
    *,
    metric: AnswerMetric,
    lemmatizer: Lemmatizer = "none",
    cut_off: Collection[str] = (),
) -> AnswerScores:
    """Score one answer to each question.

    Args:
        predictions: question → answer, for exactly the questions.
        questions: with their answers.
        metric: `vqa` (VQA accuracy as its evaluator of 2021), `vqa_lavis` (as LAVIS's older copy), `gqa`, `pathvqa` or
            `exact`.
        lemmatizer: what predictions pass through first; `spacy` as BLIP-2 on OK-VQA.
        cut_off: questions whose answer was cut off by the length limit, for their share.

    Raises:
        UserError: questions are missing or unknown (they are listed), have no answers or not as many as the metric
            needs, or spaCy's model is not installed.
    """
    raise NotImplementedError

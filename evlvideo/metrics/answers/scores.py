"""Scores of a system's answers: overall, by type, by question, and how certain they are."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from evlvideo.errors import UserError, first_ten
from evlvideo.metrics.answers.lemmas import lemmatized
from evlvideo.metrics.answers.measures import MEASURES, TITLES, AnsweredQuestion
from evlvideo.metrics.bootstrap import mean_interval

AnswerMetric = Literal["vqa", "vqa_lavis", "gqa", "pathvqa", "exact"]
Lemmatizer = Literal["none", "spacy"]
LEMMATIZERS: tuple[Lemmatizer, ...] = ("none", "spacy")


class MeanScore(NamedTuple):
    """A mean over questions; a fraction: 0.74 is what papers print as 74.0."""

    value: float
    low: float
    """Lower end of its interval, by the bootstrap over questions."""
    high: float
    """Upper end."""
    questions: int
    """Questions that it is the mean of."""


Means = dict[str, MeanScore]
"""Name of a score, a key of :data:`evlvideo.metrics.answers.measures.TITLES` → its mean."""


@dataclass(frozen=True)
class AnswerScores:
    """Scores of one system's answers to one set of questions."""

    metric: str
    """The metric as requested, such as `vqa_lavis`."""
    lemmatizer: str
    """What the answers passed through before scoring: `none` or `spacy`."""
    overall: Means
    """Scores over the questions that they apply to."""
    answer_types: dict[str, Means]
    """Answer type → scores over its questions."""
    question_types: dict[str, Means]
    """Question type → scores over its questions."""
    per_question: dict[str, dict[str, float]]
    """Question → name → score; without the names that do not apply to the question."""
    shares: dict[str, float] = field(default_factory=dict)
    """Shares of answers that are `empty`, `over_long` (more words than each reference of the question) and, where it is
    known, `cut_off` by the limit of length."""


def score_answers(
    predictions: Mapping[str, str],
    questions: Sequence[AnsweredQuestion],
    *,
    metric: AnswerMetric,
    lemmatizer: Lemmatizer = "none",
    cut_off: Collection[str] | None = None,
) -> AnswerScores:
    """Score one answer to each question.

    Args:
        predictions: question → answer, for exactly the questions.
        questions: with their answers.
        metric: `vqa` (VQA accuracy as its evaluator of 2021), `vqa_lavis` (as LAVIS's older copy), `gqa`, `pathvqa` or
            `exact`.
        lemmatizer: what predictions pass through first; `spacy` as BLIP-2 on OK-VQA.
        cut_off: questions whose answer was cut off by the limit of length. If None, that is not known.

    Raises:
        UserError: a name is unknown; questions are missing or unknown (they are listed), have no answers, or not as
            many as the metric needs; or spaCy's model is not installed.
    """
    _check_names(metric, lemmatizer)
    check_answered(predictions, questions)
    given = lemmatized(predictions) if lemmatizer == "spacy" else predictions
    measure = MEASURES[metric]
    scores = [measure(given[question.question_id], question) for question in questions]
    return AnswerScores(
        metric=metric,
        lemmatizer=lemmatizer,
        overall=_means(scores),
        answer_types=_by_type((question.answer_type for question in questions), scores),
        question_types=_by_type((question.question_type for question in questions), scores),
        per_question={question.question_id: found for question, found in zip(questions, scores, strict=True)},
        shares=_shares(predictions, questions, cut_off),
    )


def check_answered(predictions: Mapping[str, str], questions: Sequence[AnsweredQuestion]) -> None:
    """Check that each question has an answer by people and a prediction, and no other question has one.

    Raises:
        UserError: otherwise.
    """
    if not questions:
        raise UserError("There are no questions to score answers to; name a split that has some.")
    bare = [question.question_id for question in questions if not question.answers]
    if bare:
        raise UserError(
            f"{len(bare)} of {len(questions)} questions have no answers to score against: {first_ten(bare)}; name a "
            "split with answers, or send the predictions to the dataset's server."
        )
    ids = {question.question_id for question in questions}
    missing = [question.question_id for question in questions if question.question_id not in predictions]
    extra = [question_id for question_id in predictions if question_id not in ids]
    found = []
    if missing:
        found.append(f"{len(missing)} of {len(questions)} questions have no prediction: {first_ten(missing)}")
    if extra:
        found.append(f"{len(extra)} predictions answer no question of the split: {first_ten(extra)}")
    if found:
        raise UserError(
            f"{'; '.join(found)}. Give one for every question of the split, and name the split they are of."
        )


def _check_names(metric: str, lemmatizer: str) -> None:
    if metric not in MEASURES:
        raise UserError(f"The metric is {metric!r}; allowed: {', '.join(MEASURES)}.")
    if lemmatizer not in LEMMATIZERS:
        raise UserError(f"The lemmatizer is {lemmatizer!r}; allowed: {', '.join(LEMMATIZERS)}.")


def _by_type(types: Iterable[str | None], scores: Sequence[dict[str, float]]) -> dict[str, Means]:
    by_type: dict[str, list[dict[str, float]]] = defaultdict(list)
    for of_question, found in zip(types, scores, strict=True):
        if of_question is not None:
            by_type[of_question].append(found)
    return {name: _means(found) for name, found in sorted(by_type.items())}


def _means(scores: Sequence[dict[str, float]]) -> Means:
    by_name: dict[str, list[float]] = defaultdict(list)
    for found in scores:
        for name, score in found.items():
            by_name[name].append(score)
    return {name: _mean(by_name[name]) for name in TITLES if name in by_name}


def _mean(scores: Sequence[float]) -> MeanScore:
    return MeanScore(sum(scores) / len(scores), *mean_interval(scores), len(scores))


def _shares(
    predictions: Mapping[str, str], questions: Sequence[AnsweredQuestion], cut_off: Collection[str] | None
) -> dict[str, float]:
    empty = over_long = cut = 0
    for question in questions:
        words = len(predictions[question.question_id].split())
        empty += not words
        over_long += words > max(len(text.split()) for text in question.answers)
        cut += cut_off is not None and question.question_id in cut_off
    shares = {"empty": empty / len(questions), "over_long": over_long / len(questions)}
    return shares if cut_off is None else shares | {"cut_off": cut / len(questions)}

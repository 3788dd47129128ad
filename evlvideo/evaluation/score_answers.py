"""Scores answers to questions, of a file or of a run, and formats a result as lines."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions.facts import question_count_deviations, question_facts
from evlvideo.data.annotation.questions.splits import read_questions
from evlvideo.metrics.answers.lemmas import HOW_TO_GET, lemmas_are_installed
from evlvideo.metrics.answers.measures import NAMES, title_of
from evlvideo.metrics.answers.scores import (
    AnswerMetric,
    Lemmatizer,
    Means,
    MeanScore,
    check_predicted,
    score_answers,
)
from evlvideo.results.answer_files import read_answers, write_answers
from evlvideo.results.answer_records import AnswerResult
from evlvideo.results.provenance import git_commit, versions
from evlvideo.results.records import NOT_PUBLISHED, describe_references

SHARES = {"empty": "empty", "over_long": "longer than each reference", "cut_off": "cut off"}
"""Share of answers → what it is called in print."""


def score_answer_file(
    predictions: Path,
    dataset: str,
    root: Path,
    split: str | None = None,
    *,
    metrics: Sequence[AnswerMetric] = (),
    lemmatizer: Lemmatizer | None = None,
    check_counts: bool = True,
    name: str | None = None,
) -> AnswerResult:
    """Score the answers of any system.

    Args:
        predictions: a file that :func:`evlvideo.results.answer_files.read_answers` reads.
        dataset: a key of :data:`evlvideo.data.annotation.questions.facts.QUESTION_DATASETS`.
        root: its directory; images are not needed.
        split: its split. Defaults to the one that papers report.
        metrics: how to score. Defaults to what papers on the dataset report.
        lemmatizer: see :func:`answer_result`.
        check_counts: whether there must be as many questions and answers as published.
        name: what tables call the system. Defaults to the stem of the file.

    Raises:
        UserError: a file cannot be read, or answers and questions do not match.
    """
    split = split or question_facts(dataset).reported_split
    questions = read_questions(dataset, split, root, check_counts=check_counts, check_files=False)
    return answer_result(
        read_answers(predictions),
        questions,
        dataset=dataset,
        split=split,
        metrics=metrics,
        lemmatizer=lemmatizer,
        name=name or predictions.stem,
        data={"root": str(root), "check_counts": check_counts},
    )


def answer_result(
    predictions: Mapping[str, str],
    questions: Sequence[Question],
    *,
    dataset: str,
    split: str,
    name: str,
    metrics: Sequence[AnswerMetric] = (),
    lemmatizer: Lemmatizer | None = None,
    cut_off: Collection[str] | None = None,
    **facts: Any,
) -> AnswerResult:
    """Score answers by all metrics of a dataset, and record the scores with what computed them.

    Args:
        predictions: question → answer.
        questions: the questions of the split.
        dataset: name of the dataset.
        split: name of the split.
        name: what tables call the system.
        metrics: how to score. Defaults to what papers on the dataset report.
        lemmatizer: what predictions pass through. If None, nothing, and for OK-VQA spaCy as well if it is installed.
        cut_off: questions whose answer was cut off by the limit of length. If None, that is not known.
        facts: further fields of the result, such as where the answers came from.

    Raises:
        UserError: as :func:`evlvideo.metrics.answers.scores.score_answers`.
    """
    of_dataset = question_facts(dataset)
    both = lemmatizer is None and of_dataset.lemmas
    lemmatizers: list[Lemmatizer] = [lemmatizer or "none"]
    skipped = {}
    if both and lemmas_are_installed():
        lemmatizers.append("spacy")
    elif both:
        skipped["lemmas"] = f"spaCy's model is not installed; `{HOW_TO_GET}` gets it"
    scores = [
        score_answers(predictions, questions, metric=metric, lemmatizer=each, cut_off=cut_off)
        for metric in metrics or of_dataset.metrics
        for each in lemmatizers
    ]
    return AnswerResult(
        name=name,
        dataset=dataset,
        split=split,
        references=describe_references(f"{dataset}:{split}", {one.question_id: one.answers for one in questions}),
        questions=len(questions),
        scores=_joined([found.overall for found in scores]),
        answer_types=_joined_by_key([found.answer_types for found in scores]),
        question_types=_joined_by_key([found.question_types for found in scores]),
        per_question=_joined_by_key([found.per_question for found in scores]),
        answers={question.question_id: predictions[question.question_id] for question in questions},
        shares=scores[0].shares,
        deviations=question_count_deviations(dataset, of_dataset, split, questions),
        skipped=skipped,
        versions=versions(),
        commit=git_commit(),
        **facts,
    )


def write_submission(
    predictions: Path, out: Path, dataset: str, root: Path, split: str, *, check_counts: bool = True
) -> int:
    """Write answers as the dataset's server wants them, in the order of the questions, if there is one for each.

    Returns:
        the number of answers.

    Raises:
        UserError: a file cannot be read, or answers and questions do not match.
    """
    questions = read_questions(dataset, split, root, check_counts=check_counts, check_files=False)
    answers = read_answers(predictions)
    check_predicted(answers, questions)
    in_order = {question.question_id: answers[question.question_id] for question in questions}
    write_answers(out, in_order, question_facts(dataset).result_keys)
    return len(in_order)


def answer_lines(result: AnswerResult, *, question_types: bool = False) -> list[str]:
    """Return lines with each score and its interval, scores by type, and shares of empty and long answers.

    Args:
        result: the scores.
        question_types: whether to list the question types too, of which VQA has 65.
    """
    width = max(len(title_of(name)) for name in result.scores)
    lines = [f"{title_of(name):<{width}}  {_line(score)}" for name, score in _in_order(result.scores)]
    lines += [f"{name}: {reason}" for name, reason in result.skipped.items()]
    lines += _type_lines("answer type", result.answer_types)
    if question_types:
        lines += _type_lines("question type", result.question_types)
    shares = [f"{100 * share:.1f} % {SHARES[name]}" for name, share in result.shares.items()]
    lines.append(f"answers: {', '.join(shares)}")
    lines.append(
        f"{result.questions} questions of {result.dataset}:{result.split}, {result.references.captions} references; "
        "intervals of 95 % by the bootstrap over questions"
    )
    if result.deviations:
        lines.append(f"NOT THE PUBLISHED SPLIT: {'. '.join(result.deviations)}. {NOT_PUBLISHED}")
    return lines


def _joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {name: value for part in parts for name, value in part.items()}


def _joined_by_key(parts: Sequence[Mapping[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return {key: _joined([part[key] for part in parts]) for key in parts[0]}


def _in_order(means: Means) -> list[tuple[str, MeanScore]]:
    return [(name, means[name]) for name in NAMES if name in means]


def _line(score: MeanScore) -> str:
    return f"{100 * score.value:6.2f}  [{100 * score.low:.2f}, {100 * score.high:.2f}]  {score.questions} questions"


def _type_lines(what: str, by_type: Mapping[str, Means]) -> list[str]:
    """Return lines with the scores of each type, the largest first; none if there is one type or fewer."""
    if len(by_type) < 2:
        return []
    sizes = {name: max(score.questions for score in means.values()) for name, means in by_type.items()}
    lines = [f"by {what}:"]
    width = max(map(len, by_type))
    for name in sorted(by_type, key=lambda name: -sizes[name]):
        scores = ", ".join(f"{title_of(of)} {100 * score.value:.2f}" for of, score in _in_order(by_type[name]))
        lines.append(f"  {name:<{width}}  {sizes[name]:>6} questions: {scores}")
    return lines

"""The command that scores a file of answers."""

from pathlib import Path
from typing import Annotated, cast

import typer

from evlvideo.cli.options import CheckCounts, Lemmas, QuestionSplit, QuestionTypes
from evlvideo.errors import UserError
from evlvideo.mini.rendered import root_of
from evlvideo.terminal import prepare


def score_answers(
    predictions: Annotated[
        Path,
        typer.Argument(
            help='JSON: [{"question_id": …, "answer": …}], as VQA\'s server takes it, or {id: answer}; or JSON Lines.'
        ),
    ],
    dataset: Annotated[str, typer.Option(help="Name of the dataset, such as vqav2; see datasets/.")],
    root: Annotated[
        Path | None,
        typer.Option(help="Its directory; images are not needed. mini_images, which is rendered, needs no --root."),
    ] = None,
    split: QuestionSplit = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="vqa (the official evaluator), vqa_lavis (LAVIS's older copy), gqa, pathvqa or exact; repeatable. "
            "Defaults to what papers on the dataset report."
        ),
    ] = None,
    lemmatizer: Lemmas = None,
    question_types: QuestionTypes = False,
    check_counts: CheckCounts = True,
    out: Annotated[Path | None, typer.Option(help="Also write the result, with per-question scores, as JSON.")] = None,
    submission: Annotated[
        Path | None, typer.Option(help="Also write the answers as the dataset's server wants them.")
    ] = None,
) -> None:
    """Score answers to questions from a file."""
    prepare()
    from evlvideo.data.annotation.questions.facts import question_facts
    from evlvideo.evaluation.score_answers import answer_lines, score_answer_file, write_submission
    from evlvideo.metrics.answers.scores import AnswerMetric, Lemmatizer

    facts = question_facts(dataset)
    root = root_of(dataset, root)
    split = split or facts.reported_split
    unanswered = split in facts.unanswered
    if unanswered and (submission is None or out is not None):
        raise UserError(
            f"{dataset}:{split} has no answers to score against; write a file for the server with --submission FILE, "
            "without --out."
        )
    if not unanswered:
        result = score_answer_file(
            predictions,
            dataset,
            root,
            split,
            metrics=cast("list[AnswerMetric]", metric or []),
            lemmatizer=cast("Lemmatizer | None", lemmatizer),
            check_counts=check_counts,
        )
        if out is not None:
            result.save(out)
        typer.echo("\n".join(answer_lines(result, question_types=question_types)))
    if submission is not None:
        count = write_submission(predictions, submission, dataset, root, split, check_counts=check_counts)
        typer.echo(f"{count} answers are in {submission}.")

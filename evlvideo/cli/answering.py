"""Commands that answer questions: about files, or about a dataset."""

from pathlib import Path
from typing import Annotated, cast

import typer

from evlvideo.cli.options import INCOMPLETE, Changes, CheckCounts, Lemmas, Overrides, QuestionSplit, QuestionTypes
from evlvideo.errors import UserError
from evlvideo.mini.rendered import root_of
from evlvideo.processes import is_main
from evlvideo.terminal import prepare, say


def answer(
    checkpoint: Annotated[str, typer.Option(help="A run, a checkpoint directory, a hub name, or mini.")],
    question: Annotated[list[str], typer.Option(help="What to ask about each file. May be repeated.")],
    files: Annotated[list[Path] | None, typer.Argument(help="Images and videos.")] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="What stands around a question, with {} in its place. Defaults to the config's."),
    ] = None,
    changes: Changes = None,
) -> None:
    """Answer questions about images and videos.

    Prints file, question and answer at once, a line each, with tabs between. Exits with 1 if a file cannot be decoded.
    """
    if not files:
        raise UserError("No files were given; name at least one image or video.")
    prepare(f"{checkpoint}: {len(question)} questions about each of {len(files)} files")
    from evlvideo.inference.answer_files import answer_files

    bad = 0
    for file in answer_files(files, question, checkpoint, overrides=changes, prompt=prompt):
        if file.bad is not None:
            bad += 1
            continue
        for text, found in zip(question, file.answers, strict=True):
            if is_main():
                typer.echo(f"{file.file}\t{' '.join(text.split())}\t{found.text}")
    if bad and is_main():
        typer.echo(f"{bad} of {len(files)} files could not be decoded; see above.", err=True)
        raise typer.Exit(INCOMPLETE)


def evaluate_answers(
    run: Annotated[
        str, typer.Argument(help="A finished run; with --out, a checkpoint directory, a hub name, or mini.")
    ],
    overrides: Overrides = None,
    *,
    dataset: Annotated[str, typer.Option(help="Name of the dataset of questions, such as vqav2; see datasets/.")],
    root: Annotated[
        Path | None, typer.Option(help="Its directory. Not needed for mini_images, which is rendered.")
    ] = None,
    media_root: Annotated[
        Path | None,
        typer.Option(help="Directory of its images or videos. Defaults to the usual folder under the root."),
    ] = None,
    split: QuestionSplit = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="As for score-answers; may be repeated. Defaults to what papers on the dataset report."),
    ] = None,
    lemmatizer: Lemmas = None,
    question_types: QuestionTypes = False,
    check_counts: CheckCounts = True,
    out: Annotated[
        Path | None, typer.Option(help="Directory of the answers. Defaults to one under the run's answers.")
    ] = None,
) -> None:
    """Answer a dataset's questions with a run's best checkpoint, and score the answers.

    An interrupted call goes on where it stopped when it is given again.
    """
    from evlvideo.data.annotation.questions.facts import question_facts

    split = split or question_facts(dataset).reported_split
    console = prepare(f"{run}: answers to {dataset}:{split}")
    root = root_of(dataset, root)
    from evlvideo.evaluation.answer_questions import SUBMISSION_NAME, QuestionSet, answer_questions
    from evlvideo.evaluation.score_answers import answer_lines
    from evlvideo.metrics.answers.scores import AnswerMetric, Lemmatizer

    directory, result = answer_questions(
        run,
        QuestionSet(dataset, root, split, media_root, check_counts),
        overrides=overrides,
        out=out,
        metrics=cast("list[AnswerMetric]", metric or []),
        lemmatizer=cast("Lemmatizer | None", lemmatizer),
        console=console,
    )
    if result is None:
        say(f"{dataset}:{split} is scored by its server alone; send it {directory / SUBMISSION_NAME}.")
        return
    say("\n".join(answer_lines(result, question_types=question_types)))
    say(f"Answers, as the dataset's server takes them, and scores are in {directory}.")

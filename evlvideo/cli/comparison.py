"""Commands that put systems side by side: finished runs, runs over seeds, runs over the values of a key."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evlvideo.cli.options import (
    Against,
    Changes,
    CheckCounts,
    Clips,
    Frequencies,
    Pictures,
    RunFile,
    SplitToEvaluate,
    Tokenizer,
    checked_frequencies,
)
from evlvideo.terminal import prepare, say, show

if TYPE_CHECKING:
    from evlvideo.comparison.compare import Comparison


def compare(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Directories of evaluated runs, or results of score-answers, in order.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="The split that all are scored on. Defaults to test, or to all clips of --references."),
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="Captions of another system, to be scored here. May be repeated."),
    ] = None,
    references: Annotated[
        Path | None, typer.Option(help="What they are scored against, if no run says: a file as for score.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The same, as a dataset, such as msrvtt; see datasets/.")] = None,
    root: Annotated[Path | None, typer.Option(help="Directory of --dataset.")] = None,
    check_counts: CheckCounts = True,
    answers: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="Answers of another system to questions, likewise. May be repeated."),
    ] = None,
    questions: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET[:SPLIT]",
            help="The questions whose answers are compared, such as vqav2:validate. Defaults to all that the systems "
            "have answers to.",
        ),
    ] = None,
    questions_root: Annotated[
        Path | None, typer.Option(help="Directory of the questions. Defaults to where the runs found them.")
    ] = None,
    human: Annotated[
        bool, typer.Option("--human", help="Add a human row: one caption of each clip against the others.")
    ] = False,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Score incomplete files as far as they go, and mark them.")
    ] = False,
    tokenizer: Tokenizer = None,
    over_seeds: Annotated[
        bool, typer.Option("--over-seeds", help="Average runs that differ only in their seed into one row.")
    ] = False,
    against: Against = None,
    out: Annotated[Path, typer.Option(help="Directory for the report.")] = Path("report"),
    clips: Clips = 24,
    pictures: Pictures = 3,
    frequencies: Frequencies = None,
    quoted: Annotated[bool, typer.Option("--quoted", help="Add published numbers, marked as quoted.")] = False,
) -> None:
    """Put runs and other systems' captions into one table, their answers into others, and write a report to look at."""
    prepare()
    from evlvideo.comparison.compare import compare as compare_runs
    from evlvideo.comparison.rows.answers import AnswersRequest
    from evlvideo.comparison.rows.scoring import ScoringRequest, parse_prediction_files

    request = ScoringRequest(
        predictions=parse_prediction_files(predictions or []),
        references=references,
        dataset=dataset,
        root=root,
        check_counts=check_counts,
        human=human,
        allow_partial=allow_partial,
        subset_frequencies=checked_frequencies(frequencies),
        tokenizer=tokenizer,
    )
    comparison = compare_runs(
        runs or [],
        out=out,
        split=split,
        request=request,
        answers=AnswersRequest(questions, parse_prediction_files(answers or []), questions_root, check_counts),
        against=against,
        over_seeds=over_seeds,
        gallery_clips=clips,
        inspected_clips=pictures,
        quoted=quoted,
    )
    _show(comparison)


def study(
    configs: Annotated[list[Path], typer.Argument(help="Runs, as YAML; each is a row of the table.")],
    seeds: Annotated[str, typer.Option(help="Each run is trained with each of these seeds.")] = "42,1,2",
    changes: Changes = None,
    out: Annotated[Path, typer.Option(help="Directory for the runs and the report.")] = Path("study"),
    split: SplitToEvaluate = "test",
    against: Against = None,
    clips: Clips = 24,
    pictures: Pictures = 3,
) -> None:
    """Train runs with several seeds, evaluate them, and compare their means. Continues after an interruption."""
    console = prepare()
    from evlvideo.experiments.study.plan import parse_seeds, plan_study
    from evlvideo.experiments.study.run import run_study

    planned = plan_study(configs, parse_seeds(seeds), out, settings=changes or [])
    comparison = run_study(
        planned, split=split, against=against, gallery_clips=clips, pictures=pictures, console=console
    )
    if comparison is not None:
        _show(comparison)


def sweep(
    config: RunFile,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            help="Changes to the config; one has several values, as r=0,4,8 (model.merge_r) or data.num_frames=1,2,4."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Directory for the runs, the table and the figure.")] = Path("sweep"),
    evaluate_only: Annotated[
        str | None, typer.Option(help="Train nothing: evaluate this run or checkpoint with each value.")
    ] = None,
    split: SplitToEvaluate = "test",
) -> None:
    """Train or evaluate over the values of a key: what it gains and what it costs. Continues after an interruption."""
    console = prepare()
    from evlvideo.experiments.sweep.plan import plan_sweep
    from evlvideo.experiments.sweep.run import run_sweep
    from evlvideo.experiments.sweep.table import to_rich

    outcome = run_sweep(plan_sweep(config, settings or [], out, checkpoint=evaluate_only), split=split, console=console)
    show(to_rich(outcome))
    say(f"The table and the figure are {out}/sweep.md and {out}/sweep.svg, beside .csv, .json and .png.")


def _show(comparison: "Comparison") -> None:
    from evlvideo.comparison.tables.formats import to_rich

    for table in comparison.tables:
        show(to_rich(table))
    beside = " and ".join(comparison.stems)
    say(f"The report is {comparison.report}; {beside}.md, .csv, .json and .tex are beside it.")

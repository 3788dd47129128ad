"""Run a planned study: train and evaluate unfinished runs, and compare the rows over their seeds."""

from rich.console import Console

from evlvideo.cli.evaluation import evaluate
from evlvideo.comparison.compare import Comparison, compare
from evlvideo.errors import UserError
from evlvideo.experiments.resumable import finished_evaluation, log, train_unfinished
from evlvideo.experiments.study.plan import Study, StudyRun
from evlvideo.processes import is_main

REPORT = "report"
"""Directory of the comparison inside the study."""


def run_study(
    study: Study,
    *,
    split: str = "test",
    against: str | None = None,
    gallery_clips: int = 24,
    pictures: int = 3,
    console: Console | None = None,
) -> Comparison | None:
    """Train and evaluate every run, and compare them, a row for each config.

    Finished runs are kept, and stopped ones resume from their newest checkpoint. After each newly finished seed, a
    table without a gallery is written, of the seeds so far.

    Args:
        study: made by :func:`~evlvideo.experiments.study.plan.plan_study`.
        split: the split to evaluate on.
        against: name of the row that the others are tested against. Defaults to the first.
        gallery_clips: clips shown in the report.
        pictures: number of those clips on which models are shown from the inside.
        console: where progress is drawn.

    Returns:
        the comparison; None in all processes but the main one.

    Raises:
        UserError: a run cannot be trained or evaluated, or `against` is not a row.
        Interrupted: a signal stopped it.
    """
    if against is not None and against not in study.names:
        raise UserError(f"--against {against!r} is not a row; allowed: {', '.join(study.names)}.")
    comparison, changed = None, False
    for number, run in enumerate(study.runs, start=1):
        changed |= _finish(run, f"{run.title} ({number} of {len(study.runs)})", split, console)
        last, whole_seed = number == len(study.runs), number % len(study.names) == 0
        if (last or (whole_seed and changed)) and is_main():
            changed = False
            comparison = compare(
                [done.directory for done in study.runs[:number]],
                out=study.out / REPORT,
                split=f"{run.config.data.dataset}:{split}",
                against=against,
                over_seeds=True,
                gallery_clips=gallery_clips if last else 0,
                inspected_clips=pictures if last else 0,
            )
    return comparison


def _finish(run: StudyRun, title: str, split: str, console: Console | None) -> bool:
    """Train and evaluate a run, and return whether it was evaluated now."""
    train_unfinished(run.config, title, "study", console)
    found = finished_evaluation(run.config, split, title)
    result = found or evaluate(run.directory, split=split)
    log("%s: %s CIDEr %.1f", run.title, split, 100 * result.scores["cider"])
    return found is None

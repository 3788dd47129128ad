"""Run a planned study: train and evaluate what is not finished, and compare the rows over their seeds."""

import logging

from accelerate import PartialState
from rich.console import Console

from evlvideo.comparison.compare import Comparison, compare
from evlvideo.errors import UserError
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.experiments.resumable import finished_evaluation, train_unfinished
from evlvideo.experiments.study.plan import Study, StudyRun

logger = logging.getLogger(__name__)

REPORT = "report"
"""Directory of the comparison, in the study's."""


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

    What an earlier call has finished is kept, and what was stopped goes on from its newest checkpoint. A table without
    a gallery is written after each seed that was not finished before, of the seeds so far.

    Args:
        study: as :func:`~evlvideo.experiments.study.plan.plan_study` makes it.
        split: the split to evaluate on.
        against: name of the row that the others are tested against; the first where nothing is named.
        gallery_clips: clips shown in the report.
        pictures: clips of those on which models are shown from the inside.
        console: where progress is drawn.

    Returns:
        the comparison; `None` in the processes beside the main one.

    Raises:
        UserError: a run cannot be trained or evaluated, or there is no such row as `against`.
        Interrupted: a signal stopped it.
    """
    if against is not None and against not in study.names:
        raise UserError(f"--against {against!r} is no row; allowed: {', '.join(study.names)}.")
    comparison, changed = None, False
    for place, run in enumerate(study.runs, start=1):
        changed |= _finish(run, f"{run.title} ({place} of {len(study.runs)})", split, console)
        last, whole_seed = place == len(study.runs), place % len(study.names) == 0
        if (last or (whole_seed and changed)) and PartialState().is_main_process:
            changed = False
            comparison = compare(
                [done.directory for done in study.runs[:place]],
                out=study.out / REPORT,
                split=f"{run.config.data.dataset}:{split}",
                against=against,
                over_seeds=True,
                gallery_clips=gallery_clips if last else 0,
                inspected_clips=pictures if last else 0,
            )
    return comparison


def _finish(run: StudyRun, title: str, split: str, console: Console | None) -> bool:
    """Train and evaluate a run; whether it was evaluated now, and not before."""
    train_unfinished(run.config, title, "study", console)
    found = finished_evaluation(run.config, split, title)
    result = found or evaluate(run.directory, split=split)
    logger.info("%s: %s CIDEr %.1f", run.title, split, 100 * result.scores["cider"])
    return found is None

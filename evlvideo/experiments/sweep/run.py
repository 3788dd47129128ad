"""Run a planned sweep: train and evaluate what is not finished, and write the table and the figure."""

import logging
from pathlib import Path

from accelerate import PartialState
from rich.console import Console

from evlvideo.config.loading import save_config
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.experiments.resumable import finished_evaluation, train_unfinished
from evlvideo.experiments.sweep.figure import draw_figure
from evlvideo.experiments.sweep.plan import Sweep, Variant
from evlvideo.experiments.sweep.table import Outcome, Point, to_csv, to_markdown
from evlvideo.files import write_json, write_text
from evlvideo.results.records import EvaluationResult
from evlvideo.results.run_directory import CONFIG_NAME

logger = logging.getLogger(__name__)


def run_sweep(plan: Sweep, *, split: str = "test", console: Console | None = None) -> Outcome:
    """Train, where the plan does, and evaluate every value.

    What an earlier call has finished is kept, and what was stopped goes on from its newest checkpoint. The table and
    the figure are written after every new value, of the values so far, and after the last.

    Args:
        plan: as :func:`~evlvideo.experiments.sweep.plan.plan_sweep` makes it.
        split: the split to evaluate on.
        console: where progress is drawn.

    Raises:
        UserError: a run cannot be trained or evaluated.
        Interrupted: a signal stopped it.
    """
    outcome = Outcome(plan, split, ())
    for variant in plan.variants:
        title = f"{plan.name}={variant.label}"
        if plan.checkpoint is None:
            train_unfinished(variant.config, title, "sweep", console)
        found = finished_evaluation(variant.config, split, title)
        result = found or _evaluate(variant, plan, split)
        logger.info("%s: %s CIDEr %.1f", title, split, 100 * result.scores["cider"])
        outcome = Outcome(plan, split, (*outcome.points, Point.of(variant, result)))
        is_new = found is None or variant is plan.variants[-1]
        if is_new and PartialState().is_main_process:
            write_outcome(outcome, plan.out)
    return outcome


def _evaluate(variant: Variant, plan: Sweep, split: str) -> EvaluationResult:
    if plan.checkpoint is None:
        return evaluate(variant.directory, split=split)
    result = evaluate(Path(plan.checkpoint), split=split, config=variant.config, out=variant.directory)
    if PartialState().is_main_process:
        save_config(variant.config, variant.directory / CONFIG_NAME)
    return result


def write_outcome(outcome: Outcome, out: Path) -> None:
    """Write `sweep.json`, `sweep.csv`, `sweep.md`, `sweep.svg` and `sweep.png`."""
    write_json(out / "sweep.json", outcome.record())
    write_text(out / "sweep.csv", to_csv(outcome))
    write_text(out / "sweep.md", to_markdown(outcome))
    draw_figure(outcome, [out / "sweep.svg", out / "sweep.png"])

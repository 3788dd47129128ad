"""Run a planned sweep: train and evaluate unfinished values, and write the table and the figure."""

from pathlib import Path

from rich.console import Console

from evlvideo.cli.evaluation import evaluate
from evlvideo.config.loading import save_config
from evlvideo.experiments.resumable import finished_evaluation, log, train_unfinished
from evlvideo.experiments.sweep.figure import draw_figure
from evlvideo.experiments.sweep.plan import Sweep, Variant
from evlvideo.experiments.sweep.table import Outcome, Point, to_csv, to_markdown
from evlvideo.files import write_json, write_text
from evlvideo.processes import is_main
from evlvideo.results.records import EvaluationResult
from evlvideo.results.run_directory import CONFIG_NAME


def run_sweep(sweep: Sweep, *, split: str = "test", console: Console | None = None) -> Outcome:
    """Train, unless the sweep only evaluates, and evaluate every value.

    Finished values are kept, and stopped ones resume from their newest checkpoint. The table and the figure are written
    after every new value, of the values so far, and after the last.

    Args:
        sweep: made by :func:`~evlvideo.experiments.sweep.plan.plan_sweep`.
        split: the split to evaluate on.
        console: where progress is drawn.

    Raises:
        UserError: a run cannot be trained or evaluated.
        Interrupted: a signal stopped it.
    """
    outcome = Outcome(sweep, split, ())
    for variant in sweep.variants:
        title = f"{sweep.name}={variant.label}"
        if sweep.checkpoint is None:
            train_unfinished(variant.config, title, "sweep", console)
        found = finished_evaluation(variant.config, split, title)
        result = found or _evaluate(variant, sweep, split)
        log("%s: %s CIDEr %.1f", title, split, 100 * result.scores["cider"])
        outcome = Outcome(sweep, split, (*outcome.points, Point.of(variant, result)))
        is_new = found is None or variant is sweep.variants[-1]
        if is_new and is_main():
            write_outcome(outcome, sweep.out)
    return outcome


def _evaluate(variant: Variant, sweep: Sweep, split: str) -> EvaluationResult:
    if sweep.checkpoint is None:
        return evaluate(variant.directory, split=split)
    result = evaluate(Path(sweep.checkpoint), split=split, config=variant.config, out=variant.directory)
    if is_main():
        save_config(variant.config, variant.directory / CONFIG_NAME)
    return result


def write_outcome(outcome: Outcome, out: Path) -> None:
    """Write `sweep.json`, `sweep.csv`, `sweep.md`, `sweep.svg` and `sweep.png`."""
    write_json(out / "sweep.json", outcome.record())
    write_text(out / "sweep.csv", to_csv(outcome))
    write_text(out / "sweep.md", to_markdown(outcome))
    draw_figure(outcome, [out / "sweep.svg", out / "sweep.png"])

"""The command that runs the demo."""

from pathlib import Path
from typing import Annotated

import typer

from evlvideo.config.run import MOST_SEED
from evlvideo.terminal import prepare, say, show


def demo(
    out: Annotated[
        Path, typer.Option(help="Directory for the demo's runs and report; an earlier demo there is replaced.")
    ] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Seeds every run.", min=0, max=MOST_SEED)] = 42,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train the mini checkpoint first, instead of using the packaged one.")
    ] = False,
) -> None:
    """Run the whole chain in miniature: fine-tune, SCST, evaluate, compare."""
    prepare()
    from evlvideo.comparison.tables.formats import to_rich
    from evlvideo.experiments.demo import run_demo

    comparison = run_demo(out, seed=seed, from_scratch=from_scratch)
    show(to_rich(comparison.table))
    say(f"The report is {comparison.report}.")

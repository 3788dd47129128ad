"""The command that runs the demos."""

from pathlib import Path
from typing import Annotated

import typer

from evlvideo.config.run import MOST_SEED
from evlvideo.errors import UserError
from evlvideo.terminal import prepare, say, show


def demo(
    out: Annotated[
        Path | None,
        typer.Option(
            help="Directory for the demo's runs and report; an earlier demo there is replaced. Defaults to runs/demo "
            "or, with --image, to runs/demo-image."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seeds every run.", min=0, max=MOST_SEED)] = 42,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train the mini checkpoint first, instead of using the packaged one.")
    ] = False,
    image: Annotated[
        bool, typer.Option("--image", help="Run the image half: pre-train in one stage, caption, answer, compare.")
    ] = False,
) -> None:
    """Run the whole chain in miniature: fine-tune, SCST, evaluate, compare."""
    if image and from_scratch:
        raise UserError("--from-scratch trains the checkpoint that videos start from; leave it out with --image.")
    prepare()
    from evlvideo.comparison.tables.formats import to_rich

    if image:
        from evlvideo.experiments.demo_images import answer_line, run_image_demo

        found = run_image_demo(out or Path("runs/demo-image"), seed=seed)
        comparison = found.comparison
        show(to_rich(comparison.table))
        say("\n".join(f"{name}: {line}" for name, line in found.drops.items()))
        say("\n".join(answer_line(name, result) for name, result in found.answers.items()))
    else:
        from evlvideo.experiments.demo import run_demo

        comparison = run_demo(out or Path("runs/demo"), seed=seed, from_scratch=from_scratch)
        show(to_rich(comparison.table))
    say(f"The report is {comparison.report}.")

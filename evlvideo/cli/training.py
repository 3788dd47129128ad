"""Commands that train a run, and that estimate what it costs."""

from typing import Annotated

import typer

from evlvideo.cli.options import Overrides, RunFile
from evlvideo.terminal import prepare, say, show


def train(
    config: RunFile,
    overrides: Overrides = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue from the run's newest whole checkpoint. Steps, learning rates, validation and logging may "
            "change; what is trained may not.",
        ),
    ] = False,
) -> None:
    """Train by cross-entropy or self-critically, or train a Q-Former before that, as the config says."""
    from evlvideo.config.loading import load_config
    from evlvideo.config.run import REPRESENTATION

    run = load_config(config, overrides)
    console = prepare(f"{config}: training, into {run.output_dir}")
    from evlvideo.training.run import train as run_training

    directory = run_training(run, resume=resume, console=console)
    captions = run.stage != REPRESENTATION
    then = f"evaluate {directory} --split test" if captions else f"train CONFIG init={directory}, with stage: caption"
    say(f"{directory}: done. Next: evlvideo {then}")


def estimate(config: RunFile, overrides: Overrides = None) -> None:
    """Estimate what a run costs from its config alone: parameters, multiply-adds and memory."""
    from evlvideo.config.loading import load_config

    run = load_config(config, overrides)
    prepare()
    from evlvideo.estimate.run_costs import estimate_run, splits_with_features
    from evlvideo.estimate.table import estimate_table

    show(estimate_table(estimate_run(run), splits_with_features(run)))

"""Commands that train a run, and that estimate what it costs."""

from pathlib import Path
from typing import Annotated

import typer

from evlvideo.cli.options import Overrides, RunFile
from evlvideo.errors import UserError
from evlvideo.terminal import prepare, say, show


def train(
    config: RunFile,
    overrides: Overrides = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue from the run's newest whole checkpoint. Steps, learning rates, validation and logging may "
            "change; what is trained may not. Of a recipe, finished stages are kept.",
        ),
    ] = False,
    start: Annotated[
        str | None,
        typer.Option("--from", help="Train a recipe again from this stage on, which replaces it and those after it."),
    ] = None,
) -> None:
    """Train by cross-entropy or self-critically, a Q-Former before that, or in the stages of a recipe."""
    from evlvideo.config.loading import load_config
    from evlvideo.config.recipes.recipe import is_recipe
    from evlvideo.config.run import REPRESENTATION

    if is_recipe(config, overrides):
        _train_recipe(config, overrides, resume=resume, start=start)
        return
    if start is not None:
        raise UserError(f"{config} has no stages, so there is none to start from; leave --from out.")
    run = load_config(config, overrides)
    console = prepare(f"{config}: training, into {run.output_dir}")
    from evlvideo.training.run import train as run_training

    directory = run_training(run, resume=resume, console=console)
    captions = run.stage != REPRESENTATION
    then = f"evaluate {directory} --split test" if captions else f"train CONFIG init={directory}, with stage: caption"
    say(f"{directory}: done. Next: evlvideo {then}")


def _train_recipe(config: Path, overrides: list[str] | None, *, resume: bool, start: str | None) -> None:
    from evlvideo.config.recipes.recipe import load_recipe

    recipe = load_recipe(config, overrides)
    if resume and start is not None:
        raise UserError("--from starts a stage again and --resume goes on with it; give one of them.")
    console = prepare(f"{config}: training in {len(recipe.stages)} stages, into {recipe.directory}")
    from evlvideo.experiments.recipe.run import train_recipe

    last = train_recipe(recipe, resume=resume, start=start, console=console)
    say(f"{recipe.directory}: done. Next: evlvideo evaluate {last} --split test")


def estimate(config: RunFile, overrides: Overrides = None) -> None:
    """Estimate what a run costs from its config alone: parameters, multiply-adds and memory. Of a recipe, by stage."""
    from evlvideo.config.loading import load_config
    from evlvideo.config.recipes.recipe import is_recipe, load_recipe

    if is_recipe(config, overrides):
        recipe = load_recipe(config, overrides)
        prepare()
        from evlvideo.estimate.stages import estimate_stages, stages_table

        show(stages_table(estimate_stages(recipe)))
        return
    run = load_config(config, overrides)
    prepare()
    from evlvideo.estimate.run_costs import estimate_run, splits_with_features
    from evlvideo.estimate.table import estimate_table

    show(estimate_table(estimate_run(run), splits_with_features(run)))

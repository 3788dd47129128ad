"""The command that stores features of the frozen vision tower."""

from pathlib import Path
from typing import Annotated

import typer

from evlvideo.cli.options import Overrides
from evlvideo.terminal import prepare, say

features = typer.Typer(help="Store the frozen vision tower's features of videos.", no_args_is_help=True)


@features.command()
def extract(
    config: Annotated[Path, typer.Argument(help="The run that will read the features, as YAML.")],
    overrides: Overrides = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="A split; may be repeated. Defaults to those of training and validation."),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="bf16, fp16 or fp32. Defaults to the precision that the tower computes in.")
    ] = None,
    all_frames: Annotated[
        bool,
        typer.Option("--all-frames", help="Keep every frame even if the run averages them, for other runs."),
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Clips encoded at once. Defaults to training.batch_size, for the same losses as on videos."),
    ] = None,
) -> None:
    """Run the frozen vision tower once over every clip, for runs that need no videos then."""
    from evlvideo.config.loading import load_config

    run = load_config(config, overrides)
    splits = split or list(dict.fromkeys((run.data.train_split, run.data.validation_split)))
    console = prepare(f"{config}: features of {', '.join(splits)}, into {run.data.features}")
    from evlvideo.inference.extract_features import extract_features

    directory = extract_features(
        run, splits, dtype=dtype, all_frames=all_frames, batch_size=batch_size, console=console
    )
    say(f"The features of {', '.join(splits)} are in {directory}.")

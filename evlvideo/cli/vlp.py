"""Commands of vision-language pre-training."""

from typing import Annotated

import typer

from evlvideo.cli.options import Overrides, RunFile
from evlvideo.terminal import prepare, say


def pretrain(
    config: RunFile,
    overrides: Overrides = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the run's newest whole checkpoint, with the same config.")
    ] = False,
) -> None:
    """Pre-train a vision-language model (BLIP, ALBEF or CLIP), with or without pruning by ELIP."""
    from evlvideo.config.loading import load_config_of
    from evlvideo.config.vlp import VlpConfig

    run = load_config_of(VlpConfig, config, overrides)
    console = prepare(f"{config}: pre-training, into {run.output_dir}")
    from evlvideo.training.vlp.run import pretrain as run_pretraining

    directory = run_pretraining(run, resume=resume, console=console)
    say(f"{directory}: done. Next: evlvideo embed {directory} --split test")

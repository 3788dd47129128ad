"""Runs on the toy that tests stop and resume."""

from pathlib import Path
from typing import Any

from rich.console import Console
from toy_run import Toy

from evlvideo.config.run import RunConfig
from evlvideo.training.run import train

STEPS = 4


def config_of(toy: Toy, directory: Path, **sections: Any) -> RunConfig:
    """A run with a contextualizer."""
    model = {"fusion": "mean_tokens", "contextualizer": "merged", "frame_positions": True}
    return toy.config(directory, model=model, **sections)


def quietly(config: RunConfig, **arguments: Any) -> Path:
    """Train without a progress bar."""
    return train(config, console=Console(quiet=True), **arguments)


def newest(run: Path) -> Path:
    """The last checkpoint of the fixture's run."""
    return run / "checkpoints" / f"checkpoint-{STEPS}"

"""Pre-trains one model, from its config to the run's directory."""

from pathlib import Path

from rich.console import Console

from evlvideo.config.vlp import VlpConfig
from evlvideo.errors import UserError


def pretrain(config: VlpConfig, *, resume: bool = False, console: Console | None = None) -> Path:
    """Pre-train a model, and write it into the run's directory.

    Raises:
        UserError: something that the config names is missing or does not fit.
    """
    raise UserError("Pre-training is not there yet.")

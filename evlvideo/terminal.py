"""What all commands share: how they speak to people, and the arguments that several of them have."""

import logging
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from evlvideo.processes import is_main

if TYPE_CHECKING:
    from rich.console import Console

INTERRUPTED = 130
MISTAKE = 2
INCOMPLETE = 1
"""Exit statuses."""

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Changes to the config: key=value, such as training.max_steps=100.")
]
Spice = Annotated[bool, typer.Option("--spice", help="Score SPICE too, where its models are installed.")]


def prepare() -> "Console":
    """Set up what a person sees: our log lines, and not the libraries' bars and notes.

    Returns:
        where log lines go, and progress bars must go, so that they do not write over each other.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from rich.console import Console
    from rich.logging import RichHandler
    from transformers.utils import logging as transformers_logging

    console = Console(stderr=True)
    if not console.is_terminal:
        # A log file has no width; lines that a search should find are not broken.
        console.width = 200
    handler = RichHandler(console=console, show_path=False, show_level=False, markup=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", datefmt="%H:%M:%S", handlers=[handler])
    logging.getLogger("evlvideo").setLevel(logging.INFO)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    return console


def say(line: str) -> None:
    """Print a line at once, from one of the processes that share a command."""
    if is_main():
        typer.echo(line)
        sys.stdout.flush()


def show(renderable: object) -> None:
    """Print a table or text, as wide as the terminal, from one of the processes that share a command."""
    if not is_main():
        return
    from rich.console import Console

    Console().print(renderable)

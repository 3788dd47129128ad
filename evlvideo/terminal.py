"""How commands speak to people: log lines, results and tables."""

import logging
import os
import sys
from typing import TYPE_CHECKING

import typer

from evlvideo.processes import is_main

if TYPE_CHECKING:
    from rich.console import Console


def prepare() -> "Console":
    """Show our log lines, and silence the libraries' progress bars and notes.

    Returns:
        the console of the log lines. Progress bars must use it too, so that neither overwrites the other.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from rich.console import Console
    from rich.logging import RichHandler
    from transformers.utils import logging as transformers_logging

    console = Console(stderr=True)
    if not console.is_terminal:
        # A log file has no width. Long lines stay whole, so that they can be searched.
        console.width = 200
    handler = RichHandler(console=console, show_path=False, show_level=False, markup=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", datefmt="%H:%M:%S", handlers=[handler])
    logging.getLogger("evlvideo").setLevel(logging.INFO)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    return console


def say(line: str) -> None:
    """Print a line at once, in the main process only."""
    if is_main():
        typer.echo(line)
        sys.stdout.flush()


def show(renderable: object) -> None:
    """Print a table or text, as wide as the terminal, from one of the processes that share a command."""
    if not is_main():
        return
    from rich.console import Console

    Console().print(renderable)

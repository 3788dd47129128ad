"""How commands speak to people: log lines, results and tables."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import typer

from evlvideo.errors import UserError, printable
from evlvideo.processes import is_first_to_say, is_main

if TYPE_CHECKING:
    from rich.console import Console

_PROGRESS = "evlvideo.progress"
_MOST_KEPT = 10_000
_logger = logging.getLogger("evlvideo")


class _Printable(logging.Formatter):
    """Escapes control characters of names."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _Heedless:
    """A stream that nobody has to read.

    When the reader of a pipe ends, such as `head`, a terminal closes or a disk is full, lines are lost and the work
    goes on. Everything else is the stream's own.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        # A closed stream is a ValueError.
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Pass on what can be passed on."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _LogFile(logging.FileHandler):
    """A full disk ends the log and not the work."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Do without the line."""

    def close(self) -> None:
        """Close the file, with the lines that fit."""
        with suppress(OSError):
            super().close()


def _heedless(stream: TextIO) -> TextIO:
    return stream if isinstance(stream, _Heedless) else cast(TextIO, _Heedless(stream))


def prepare(begins: str | None = None) -> "Console":
    """Show our log lines, and silence the libraries' progress bars and notes. From here, standard error may be closed.

    Args:
        begins: the first line, logged before libraries are imported, which takes seconds.

    Returns:
        the console of the log lines. Progress bars must use it too, so that neither overwrites the other.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    sys.stderr = _heedless(sys.stderr)
    from rich.console import Console
    from rich.logging import RichHandler

    console = Console(stderr=True)
    if not console.is_terminal:
        # A log file has no width. Long lines stay whole, so that they can be searched.
        console.width = 200
    handler = RichHandler(console=console, show_path=False, show_level=False, markup=False)
    handler.setFormatter(_Printable("%(message)s", "%H:%M:%S"))
    if console.is_terminal:
        handler.addFilter(lambda record: record.name != _PROGRESS)  # there is a bar
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    _logger.setLevel(logging.INFO)
    for earlier in filter(_keeps_lines, _logger.handlers[:]):
        _logger.removeHandler(earlier)
    # Lines of any level, until a log file takes them.
    _logger.addHandler(MemoryHandler(_MOST_KEPT, flushLevel=logging.CRITICAL + 1))
    if begins is not None and is_first_to_say(begins):
        _logger.info("%s", begins)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    return console


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Append our log lines to a file while the block runs, after those since the command or the last file began.

    Only the main process of a command writes: a program that calls the package has logs of its own.

    Raises:
        UserError: the file cannot be written.
    """
    early = next(filter(_keeps_lines, _logger.handlers), None)
    if not isinstance(early, MemoryHandler) or not is_main():
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error
    file.setFormatter(_Printable("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
    early.setTarget(file)
    early.flush()
    early.setTarget(None)
    _logger.removeHandler(early)
    _logger.addHandler(file)
    try:
        yield
    except BaseException as error:
        # The terminal gets it from the command line.
        trace = None if isinstance(error, UserError | KeyboardInterrupt) else sys.exc_info()
        name = str(error) or type(error).__name__
        file.handle(logging.LogRecord(_logger.name, logging.ERROR, __file__, 0, "%s", (name,), trace))
        raise
    finally:
        _logger.removeHandler(file)
        _logger.addHandler(early)
        file.close()


def _keeps_lines(handler: logging.Handler) -> bool:
    return isinstance(handler, MemoryHandler)


def say(line: str) -> None:
    """Print a line at once, in the main process only. The command has done its work, whether anyone reads this."""
    if is_main():
        typer.echo(line, file=_heedless(sys.stdout))


def show(renderable: object) -> None:
    """Print a table or text, as :func:`say` does, as wide as the terminal."""
    if not is_main():
        return
    from rich.console import Console

    Console(file=_heedless(sys.stdout)).print(renderable)

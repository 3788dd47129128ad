"""The exceptions that users cause."""

import errno
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence

_OF_THE_PLACE = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO", "ESTALE", "EMFILE", "ENFILE")
    if hasattr(errno, name)
}
"""Errors of a disk, a quota, a limit or a permission, which no program can mend."""
_OF_LIBRARIES = re.compile(r"\(os error (?P<number>\d+)\)|PytorchStreamWriter|file write failed|unexpected pos")
"""How safetensors and torch say that they cannot write a file."""


class UserError(Exception):
    """A mistake in what the user gave: a path, a name, a config key.

    The message is one clear sentence or list with the value, what is allowed, and what to do. The command line prints
    it without a traceback and exits with status 2; library callers catch it like any other exception.
    """


class Interrupted(UserError):
    """A signal stopped a run, which left a checkpoint to resume from."""


class ProblemsError(UserError):
    """Several mistakes, found together.

    Args:
        message: lists all of them.
        problems: one text for each.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


def raise_problems(where: str, problems: Iterable[str]) -> None:
    """List all problems in one error, each once. Do nothing if there are none.

    Args:
        where: what has the problems, as the message begins.
        problems: one text for each.

    Raises:
        ProblemsError: there are problems.
    """
    listed = list(dict.fromkeys(problems))
    if listed:
        count = "a problem" if len(listed) == 1 else f"{len(listed)} problems"
        # Some problems are lists themselves; their lines are indented.
        lines = "\n".join("  - " + problem.replace("\n", "\n  ") for problem in listed)
        raise ProblemsError(f"{where} has {count}:\n{lines}", listed)


def first_ten(names: Sequence[object]) -> str:
    """List names in a message, the first ten of many."""
    return ", ".join(map(str, names[:10])) + (", …" if len(names) > 10 else "")


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error, or its type if it says nothing."""
    return next(iter(str(error).strip().splitlines()), "").rstrip(":. ") or type(error).__name__


def printable(text: str) -> str:
    """Escape control characters, which names in files may hold and terminals obey; lines and tabs stay."""
    return "".join(
        character if character in "\n\t" or unicodedata.category(character) != "Cc" else repr(character)[1:-1]
        for character in text
    )


def form_of(name: str) -> str:
    """Return a name without what eyes hardly tell apart: its Unicode form, upper case, and the kind of slashes."""
    return unicodedata.normalize("NFC", name).casefold().replace("\\", "/")


def look_alikes(wanted: Iterable[str], given: Iterable[str]) -> str:
    """Say of the first given name that looks like a wanted one how they differ; an empty text if there is none."""
    by_form = {form_of(name): name for name in wanted}
    name = next((name for name in given if form_of(name) in by_form), None)
    # Forms of Unicode look alike, so the names are shown with escapes.
    return "" if name is None else f" ({name!a} there, {by_form[form_of(name)]!a} here)"


def why_not_written(error: BaseException) -> str | None:
    """Return the system's reason that something cannot be written or opened, or None for any other error."""
    if isinstance(error, OSError) and error.errno in _OF_THE_PLACE:
        place = f"{error.filename}: " if error.filename else ""
        return place + (error.strerror or str(error))
    if isinstance(error, OSError | UserError) or not (found := _OF_LIBRARIES.search(str(error))):
        return None
    # torch does not tell the reason; as good as always, the disk is full.
    number = int(found["number"] or errno.ENOSPC)
    return os.strerror(number) if number in _OF_THE_PLACE else None

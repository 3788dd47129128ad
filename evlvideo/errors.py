"""The one exception that users cause."""

from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave: a path, a name, a config key.

    The message is one clear sentence or list that holds the value, what is allowed, and what to do. The command line
    prints it without a traceback and exits with status 2; library callers catch it like any other exception.
    """


class Interrupted(UserError):
    """A run was stopped by a signal, and left a checkpoint from which it goes on."""


def raise_problems(where: str, problems: Iterable[str]) -> None:
    """Raise one error that lists all problems found in `where`, each once; do nothing if there are none."""
    listed = list(dict.fromkeys(problems))
    if listed:
        count = "a problem" if len(listed) == 1 else f"{len(listed)} problems"
        # A problem may hold a list of its own, which is indented below it.
        lines = ("  - " + problem.replace("\n", "\n  ") for problem in listed)
        raise UserError(f"{where} has {count}:\n" + "\n".join(lines))

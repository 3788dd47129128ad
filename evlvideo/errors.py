"""The one exception that users cause."""


class UserError(Exception):
    """A mistake in what the user gave: a path, a name, a config key.

    The message is one clear sentence or list that holds the value, what is allowed, and what to do. The command line
    prints it without a traceback and exits with status 2; library callers catch it like any other exception.
    """


class Interrupted(UserError):
    """A run was stopped by a signal, and left a checkpoint from which it goes on."""

"""Format values and lists of names for messages."""

from collections.abc import Iterable
from typing import Any


def shown(value: Any, most_characters: int = 80) -> str:
    """Format a value for a message, truncated if it is long."""
    text = repr(value)
    return text if len(text) <= most_characters else f"{text[:most_characters]}…"


def some(names: Iterable[str], most: int = 3) -> str:
    """List the first few names, and count the rest."""
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest

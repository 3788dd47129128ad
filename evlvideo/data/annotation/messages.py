"""How messages show values and name files."""

from collections.abc import Iterable
from typing import Any


def shown(value: Any, most_characters: int = 80) -> str:
    """Show a value in a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= most_characters else f"{text[:most_characters]}…"


def some(names: Iterable[str], most: int = 3) -> str:
    """Name the first few."""
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest

"""Check the fields of a question's entry. Every error names the place of the entry."""

from collections.abc import Sequence
from typing import Any

from evlvideo.data.annotation.messages import shown
from evlvideo.data.annotation.readers.fields import clip_name, needed
from evlvideo.errors import UserError

OPENINGS = ("what", "who", "where", "when", "why", "which", "whose", "how")
"""First words that tell apart what is asked."""


def question_name(place: str, value: Any) -> str:
    """Check the id of a question; convert whole numbers to strings.

    Raises:
        UserError: it is neither a string nor a whole number, or is blank or not printable.
    """
    return clip_name(place, value, "question")


def question_text(place: str, entry: dict[str, Any]) -> str:
    """Return the `question` of an entry.

    Raises:
        UserError: it is missing, not a string, or blank.
    """
    text = needed(place, entry, "question")
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{place}: the question is {shown(text)}; write one, or remove the entry.")
    return text


def answer_text(place: str, value: Any) -> str:
    """Check an answer, which may be empty.

    Raises:
        UserError: it is not a string.
    """
    if not isinstance(value, str):
        raise UserError(f"{place}: an answer is {shown(value)}; answers are strings.")
    return value


def answer_texts(place: str, value: Any) -> tuple[str, ...]:
    """Check the answers of an entry: a string, or a list of strings.

    Raises:
        UserError: there are none, or one is not a string.
    """
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    if not values:
        raise UserError(f"{place} has no answers; write one, or remove the entry.")
    return tuple(answer_text(place, text) for text in values)


def optional_text(place: str, entry: dict[str, Any], key: str) -> str | None:
    """Return an optional text of an entry.

    Raises:
        UserError: it is not a string.
    """
    value = entry.get(key)
    if value is not None and not isinstance(value, str):
        raise UserError(f"{place}: {key} is {shown(value)}; it is a string.")
    return value


def opening(text: str) -> str:
    """Return the first word of a question if it is one of :data:`OPENINGS`, else `other`."""
    first = text.split(maxsplit=1)[0].lower()
    return first if first in OPENINGS else "other"

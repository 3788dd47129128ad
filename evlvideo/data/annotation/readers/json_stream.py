"""Read JSON files entry by entry. Read whole, millions of entries take ten times the file's size in memory."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from json.decoder import WHITESPACE  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any, TextIO

from evlvideo.data.annotation.readers.text_files import read_json_object
from evlvideo.errors import UserError
from evlvideo.files import half_character, read_json

_PIECE = 1 << 20
_AFTER_VALUES = tuple(" \t\n\r,:]}")


def stream_objects(
    path: Path, *keys: str, others: dict[str, Any] | None = None
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Stream the lists of objects under some keys of a JSON object, in the order of the file.

    Args:
        path: the file.
        keys: keys of the lists.
        others: is filled with the values of the other keys; complete after the last object.

    Yields:
        the key, the place, and the object.

    Raises:
        UserError: the file cannot be read, is not a JSON object, has no list of objects under one of the keys, or holds
            half of a character.
    """
    missing = list(keys)
    name = str(path)  # str(path) is slow
    with _opened(path) as text:
        if text.peek() != "{":
            read_json_object(path)  # raises, and names what it is instead
        for key in text.members():
            if key not in keys:
                value = text.value()
                if others is not None:
                    others[key] = value
                continue
            if text.peek() != "[":
                break
            for number, entry in enumerate(text.elements()):
                if not isinstance(entry, dict):
                    raise _no_objects(path, key)
                yield key, f"{name}, {key}[{number}]", entry
            missing.remove(key)
        else:
            text.end()
    if missing:
        raise _no_objects(path, missing[0])


def stream_list(path: Path) -> Iterator[Any]:
    """Stream the values of a JSON list.

    Raises:
        UserError: the file cannot be read, is not a JSON list, or holds half of a character.
    """
    with _opened(path) as text:
        if text.peek() == "[":
            yield from text.elements()
            text.end()
            return
    raise UserError(f"{path} holds a JSON {type(read_json(path)).__name__}; a list of entries is needed.")


def stream_members(path: Path) -> Iterator[tuple[str, Any]]:
    """Stream the keys and values of a JSON object.

    Raises:
        UserError: the file cannot be read, is not a JSON object, or holds half of a character.
    """
    with _opened(path) as text:
        if text.peek() != "{":
            read_json_object(path)  # raises, and names what it is instead
        for key in text.members():
            yield key, text.value()
        text.end()


def is_list(path: Path) -> bool:
    """Return whether a JSON file holds a list.

    Raises:
        UserError: the file cannot be read.
    """
    with _opened(path) as text:
        return text.peek() == "["


def _no_objects(path: Path, key: str) -> UserError:
    return UserError(f"{path} has no list of objects under {key!r}; get the file again.")


@contextmanager
def _opened(path: Path) -> Iterator["_Text"]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield _Text(file)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        # Reading it whole raises a better message, with the line.
        read_json(path)
        raise UserError(f"{path} is not a JSON file: {error}.") from error


class _Text:
    """JSON text, read from a file in pieces.

    Args:
        file: open, at its beginning.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._decode = json.JSONDecoder().raw_decode
        self._piece, self._at, self._ended = "", 0, False

    def peek(self) -> str:
        """Return the next non-space character, or an empty string at the end."""
        while True:
            self._at = WHITESPACE.match(self._piece, self._at).end()
            if self._at < len(self._piece) or self._ended:
                return self._piece[self._at : self._at + 1]
            self._read_on()

    def value(self) -> Any:
        """Take the next value.

        Raises:
            ValueError: there is none, or it holds half of a character.
        """
        self.peek()
        while True:
            try:
                value, end = self._decode(self._piece, self._at)
            except ValueError:
                if self._ended:
                    raise
            else:
                # A number may continue in the next piece.
                if self._ended or self._piece[end : end + 1] in _AFTER_VALUES:
                    break
            self._read_on()
        if half_character(self._piece, self._at, end) is not None:
            raise ValueError("half of a character")
        self._at = end
        return value

    def elements(self) -> Iterator[Any]:
        """Yield the values of a list."""
        self._take("[")
        if self.peek() == "]":
            self._take("]")
            return
        goes_on = True
        while goes_on:
            yield self.value()
            goes_on = self._take(",]") == ","

    def members(self) -> Iterator[str]:
        """Yield the keys of an object; the caller takes the value of each."""
        self._take("{")
        if self.peek() == "}":
            self._take("}")
            return
        goes_on = True
        while goes_on:
            key = self.value()
            self._take(":")
            yield key
            goes_on = self._take(",}") == ","

    def end(self) -> None:
        """Take the end of the file.

        Raises:
            ValueError: something is left.
        """
        if self.peek():
            raise ValueError("there is more after its end")

    def _take(self, allowed: str) -> str:
        character = self.peek()
        if not character or character not in allowed:
            raise ValueError(f"{character!r} where one of {allowed!r} is needed")
        self._at += 1
        return character

    def _read_on(self) -> None:
        # Double the piece for a longer value, so that it is copied few times.
        rest = self._piece[self._at :]
        more = self._file.read(max(_PIECE, len(rest)))
        self._piece, self._at, self._ended = rest + more, 0, not more

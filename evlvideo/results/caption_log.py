"""Log captions or answers as they are made, one line of JSON each, so that a killed run loses at most one batch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evlvideo.errors import UserError
from evlvideo.files import parse_object, write_text

_FACTS = "facts"


class _Log:
    """Files such as `captions-0.jsonl`, `captions-1.jsonl`, … of a directory, one per process.

    The first line of each states what its entries depend on; entries that depend on something else are refused.

    Args:
        directory: directory of the files.
        facts: what the entries depend on: plain values by name.
        process: index of this process.

    Raises:
        UserError: entries depend on something else; every difference is listed.
    """

    _what = ""
    """What the entries are, in the names of files and in messages."""
    _keys = ("", "")
    """Keys of an entry's id and of its value."""

    def __init__(self, directory: Path, facts: Mapping[str, Any], *, process: int = 0) -> None:
        self.directory = directory
        self.entries: dict[str, Any] = {}
        """Id → value, of all processes, as read at construction."""
        self._facts = json.loads(json.dumps(facts))
        self._path = directory / f"{self._what}-{process}.jsonl"
        self._kept = ""
        for path in sorted(directory.glob(f"{self._what}-*.jsonl")):
            self._read(path)

    def _read(self, path: Path) -> None:
        # Ignore an incomplete last line, as a kill leaves it.
        text = path.read_bytes().decode("utf-8", "replace")
        text = text[: text.rfind("\n") + 1]
        lines = [entry for line in text.split("\n") if (entry := parse_object(line))]
        name, value = self._keys
        entries = {entry[name]: entry[value] for entry in lines if entry.keys() == {name, value}}
        if not entries:
            return
        found = lines[0].get(_FACTS, {})
        differences = [
            f"  - {key}: {found.get(key)!r} there, {wanted!r} asked for"
            for key, wanted in self._facts.items()
            if found.get(key) != wanted
        ]
        if differences:
            raise UserError(
                f"{path} holds {self._what} that were made with other settings; name another --out, or remove it:\n"
                + "\n".join(differences)
            )
        self.entries |= entries
        if path == self._path:
            self._kept = text

    def open(self) -> None:
        """Start this process's file, or cut off an incomplete last line.

        Raises:
            UserError: it cannot be written.
        """
        write_text(self._path, self._kept or json.dumps({_FACTS: self._facts}, ensure_ascii=False) + "\n")

    def append(self, entries: Mapping[str, Any]) -> None:
        """Add entries to this process's file."""
        lines = [dict(zip(self._keys, entry, strict=True)) for entry in entries.items()]
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        except OSError as error:
            raise UserError(f"{self._path} cannot be written: {error.strerror or error}.") from error


class CaptionLog(_Log):
    """Clip id → caption."""

    _what = "captions"
    _keys = ("image_id", "caption")

    @property
    def captions(self) -> dict[str, str]:
        """The captions, of all processes, as read at construction."""
        return self.entries


class AnswerLog(_Log):
    """Question id → `[answer, whether it reached its ending]`."""

    _what = "answers"
    _keys = ("question_id", "answer")

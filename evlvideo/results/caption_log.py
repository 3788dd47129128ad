"""Log captions as they are made, one line of JSON each, so that a killed run loses at most one batch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evlvideo.errors import UserError
from evlvideo.files import parse_object, write_text

_FACTS = "facts"


class CaptionLog:
    """Files `captions-0.jsonl`, `captions-1.jsonl`, … of a directory, one per process.

    The first line of each states what the captions depend on; captions that depend on something else are refused.

    Args:
        directory: directory of the files.
        facts: what the captions depend on: plain values by name.
        process: index of this process.

    Raises:
        UserError: captions depend on something else; every difference is listed.
    """

    def __init__(self, directory: Path, facts: Mapping[str, Any], *, process: int = 0) -> None:
        self.directory = directory
        self.captions: dict[str, str] = {}
        """Clip id → caption, of all processes, as read at construction."""
        self._facts = json.loads(json.dumps(facts))
        self._path = directory / f"captions-{process}.jsonl"
        self._kept = ""
        for path in sorted(directory.glob("captions-*.jsonl")):
            self._read(path)

    def _read(self, path: Path) -> None:
        # Ignore an incomplete last line, as a kill leaves it.
        text = path.read_bytes().decode("utf-8", "replace")
        text = text[: text.rfind("\n") + 1]
        lines = [entry for line in text.split("\n") if (entry := parse_object(line))]
        captions = {entry["image_id"]: entry["caption"] for entry in lines if entry.keys() == {"image_id", "caption"}}
        if not captions:
            return
        found = lines[0].get(_FACTS, {})
        differences = [
            f"  - {name}: {found.get(name)!r} there, {wanted!r} asked for"
            for name, wanted in self._facts.items()
            if found.get(name) != wanted
        ]
        if differences:
            raise UserError(
                f"{path} holds captions that were made with other settings; name another --out, or remove it:\n"
                + "\n".join(differences)
            )
        self.captions |= captions
        if path == self._path:
            self._kept = text

    def open(self) -> None:
        """Start this process's file, or cut off an incomplete last line.

        Raises:
            UserError: it cannot be written.
        """
        write_text(self._path, self._kept or json.dumps({_FACTS: self._facts}, ensure_ascii=False) + "\n")

    def append(self, captions: Mapping[str, str]) -> None:
        """Add captions to this process's file."""
        entries = [{"image_id": clip_id, "caption": caption} for clip_id, caption in captions.items()]
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries))
        except OSError as error:
            raise UserError(f"{self._path} cannot be written: {error.strerror or error}.") from error

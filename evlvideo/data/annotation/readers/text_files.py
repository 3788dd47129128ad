"""Find annotation files and read them entry by entry. Every error names the file, and the line or entry."""

import csv
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.messages import shown
from evlvideo.errors import UserError
from evlvideo.files import parse_json, read_json

Reader = Callable[[Path, Path, str], Iterable[CaptionedClip]]
"""Takes the root of a dataset, the root of its media files and a split; returns the split's clips in order."""


class NoAnnotationError(UserError):
    """The annotation of a split is missing."""


def find_file(root: Path, *names: str) -> Path:
    """Find an annotation file by any of its names, under the root or its `annotations` folder.

    Raises:
        NoAnnotationError: the root has none of the files.
        UserError: the root is not a directory.
    """
    if not root.is_dir():
        raise UserError(f"The data root {root} is not a directory; set data.root to the one that holds the dataset.")
    for name in names:
        for path in (root / name, root / "annotations" / name):
            if path.is_file():
                return path
    raise NoAnnotationError(
        f"There is no {' or '.join(names)} in {root} or {root / 'annotations'}; put the published annotation there."
    )


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number of each line, from 1, and the line without its end.

    Raises:
        UserError: the file cannot be read, or a line is not UTF-8.
    """
    for number, line in _text(path):
        yield number, line.rstrip("\r\n")


def read_json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the object of each line of a JSON Lines file. Skip blank lines.

    Raises:
        UserError: the file cannot be read, or a line is not a JSON object or holds half of a character.
    """
    for number, line in read_lines(path):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            entry = parse_json(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place} is not JSON: {error}; write one object a line.") from error
        if not isinstance(entry, dict):
            raise UserError(f"{place} holds {shown(entry)}; write one JSON object a line.")
        yield place, entry


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a JSON {type(content).__name__}; an object with clips and captions is needed.")
    return content


def json_entries(path: Path, content: dict[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the object for each entry of the list under a key.

    Raises:
        UserError: there is no such list.
    """
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path} has no list of objects under {key!r}; get the file again.")
    name = str(path)  # str(path) is slow
    return ((f"{name}, {key}[{number}]", entry) for number, entry in enumerate(entries))


def read_table(path: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    """Yield the place of each row of a CSV file, and its values in the named columns.

    Args:
        path: a CSV file with a header; quoted values may hold line ends.
        columns: required columns, in any order.
        optional: columns whose values are empty if missing.

    Raises:
        UserError: the file cannot be read, a column is missing, a quote is not closed, or a row and the header differ
            in length.
    """
    lines = _Lines(path)
    # Strict, or text after a closing quote would be taken as part of the value.
    reader = csv.reader(lines, strict=True)
    name = str(path)  # str(path) is slow
    try:
        rows = lines.whole(reader)
        header = next(rows, [])
        missing = [column for column in columns if column not in header]
        if missing:
            raise UserError(f"{path} has no column {', '.join(missing)}; its header is {shown(','.join(header))}.")
        places = [header.index(column) if column in header else None for column in (*columns, *optional)]
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise UserError(
                    f"{path}, line {reader.line_num}: {len(row)} values for {len(header)} columns; "
                    "quote values that hold commas."
                )
            yield f"{name}, line {reader.line_num}", ["" if place is None else row[place] for place in places]
    except csv.Error as error:
        raise _quoting_error(path, reader.line_num, lines.opened, error) from error


def _quoting_error(path: Path, line: int, opened: int, error: csv.Error) -> UserError:
    if not opened:
        return UserError(f"{path}, line {line}: {error}; mend or remove the row.")
    return UserError(
        f"{path}, line {opened} opens a quote that does not end as it should by line {line} ({error}); end it, or, in "
        'a quoted value, write each " twice.'
    )


class _Lines:
    """Lines of a CSV file, with their ends, since a quoted value may hold some.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._in_row = False
        self.opened = 0
        """Line that opened the quote that the reader is in; 0 if it is in none."""

    def __iter__(self) -> Iterator[str]:
        for number, line in _text(self._path):
            self._in_row = True
            yield line
            # The reader needs another line for the row, so this one ends inside a quote.
            if not self._in_row:
                self.opened = 0
            elif '"' in line.replace('""', ""):
                self.opened = number

    def whole(self, rows: Iterable[list[str]]) -> Iterator[list[str]]:
        """Yield the rows that a reader of the lines takes from them."""
        for row in rows:
            self._in_row = False
            yield row


def _text(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{path}, line {number} is not UTF-8 ({error.reason} at byte {error.start} of the line); "
                        "convert the file, as with `iconv -t UTF-8`."
                    ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error

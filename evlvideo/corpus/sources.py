"""Read what is to be captioned: files, folders, tables and tar shards.

A table is a `.parquet`, `.csv` or `.jsonl` file with a column `path` and, if wanted, `id`, `start` and `end` in
seconds; other columns are left alone. Relative paths are under the table's folder and stay there; absolute ones may be
anywhere. A member of a tar shard is `SHARD.tar::MEMBER`.
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.parquet import ParquetFile

from evlvideo.corpus.rows import Row, Rows, row_id
from evlvideo.data.annotation.messages import shown
from evlvideo.data.annotation.readers.fields import clip_name, media_file
from evlvideo.data.annotation.readers.text_files import read_json_lines, read_table
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.media.media import Media, TarMember
from evlvideo.data.media.shard_members import list_members
from evlvideo.data.video.check import SUFFIXES, media_files
from evlvideo.errors import UserError

IN_SHARD = "::"
"""Between a shard and the name of its member."""
SHARD_SUFFIX = ".tar"
_COLUMNS = ("path", "id", "start", "end")

_PLAIN = re.compile(r"[^/\0.:\s\\][^/\0:\\]*(?:/[^/\0.:\\][^/\0:\\]*)*")
"""Relative paths that need no second look: without `.`, `..` and empty folders."""

Entry = tuple[str, Sequence[Any]]
"""The place of a table's row, and its values in the order of its columns here."""


def read_sources(sources: Sequence[Path]) -> Rows:
    """List the rows of all sources, in the order of the sources, sorted within a folder. What two of them hold is one.

    Files that are named must exist; those in tables are looked for when they are decoded.

    Raises:
        UserError: nothing was given, a source is missing, cannot be read or holds nothing, a table has no paths or a
            bad row, or an id stands for several rows.
    """
    missing = [str(source) for source in sources if not source.exists()]
    if not sources or missing:
        given = f"{len(missing)} of {len(sources)} sources do not exist: {', '.join(missing[:3])}."
        raise UserError(given if missing else "Nothing was given; name files, folders, tables or tar shards.")
    found = Rows.of(())
    for source in sources:
        found = found.joined(Rows.of(_rows_of(source)).check_unique())
    return found


def is_table(source: Path) -> bool:
    """Return whether a file is a table, by its suffix."""
    return source.suffix.lower() in _TABLES and not source.is_dir()


def is_shard(source: Path) -> bool:
    """Return whether a file is a tar shard, by its suffix."""
    return source.suffix.lower() == SHARD_SUFFIX and not source.is_dir()


def media_of(path: str) -> Media:
    """Return the file of a row's path, or the member of a shard.

    Raises:
        DecodeError: the shard cannot be read, or has no such member.
    """
    shard, found, member = path.partition(f"{SHARD_SUFFIX}{IN_SHARD}")
    if not found:
        return Path(path)
    try:
        return _members_of(Path(shard + SHARD_SUFFIX))[member]
    except (UserError, OSError) as error:
        raise DecodeError(f"{path} cannot be read: {error}") from error
    except KeyError:
        raise DecodeError(f"{shard}{SHARD_SUFFIX} has no member {member}.") from None


@lru_cache(maxsize=8)
def _members_of(shard: Path) -> Mapping[str, TarMember]:
    return {member.name: member for member in list_members(shard)}


def _rows_of(source: Path) -> Iterator[Row]:
    if is_table(source):
        rows = _of_table(source, _TABLES[source.suffix.lower()](source))
        nothing = "has no rows; write one for each file"
    elif is_shard(source):
        members = (member for member in list_members(source) if member.suffix.lower() in SUFFIXES)
        rows = (_of_path(f"{_absolute(source)}{IN_SHARD}{member.name}") for member in members)
        nothing = _no_media("holds no videos or images")
    else:
        rows = map(_of_path, map(_absolute, media_files(source) if source.is_dir() else [source]))
        nothing = _no_media("holds no videos or images") + "; shards and tables are named one by one"
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        raise UserError(f"{source} {nothing}.")


def _no_media(nothing: str) -> str:
    return f"{nothing}; files with these endings are looked for: {', '.join(sorted(SUFFIXES))}"


def _absolute(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100  (resolving would follow links)


def _of_path(path: str, start: float | None = None, end: float | None = None) -> Row:
    # Names that are not text are shown with escapes, and come out as errors.
    return Row(row_id(path, start, end), path.encode("utf-8", "backslashreplace").decode(), start, end)


def _of_table(table: Path, entries: Iterable[Entry]) -> Iterator[Row]:
    folder = Path(_absolute(table)).parent
    for place, (name, own_id, start, end) in entries:
        path = _path(place, folder, name)
        times = _time(place, "start", start), _time(place, "end", end)
        if times[1] is not None and times[1] <= (times[0] or 0.0):
            raise UserError(f"{place}: the end is {times[1]:g} s, which is not after the start; mend the row.")
        row = _of_path(path, *times)
        yield row if own_id in (None, "") else Row(clip_name(place, own_id, "row"), row.path, *times)


def _path(place: str, folder: Path, name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{place}: the path is {shown(name)}; name a file.")
    if _PLAIN.fullmatch(name):
        return f"{folder}{os.sep}{name}"  # what follows would return, ten times as slowly
    if "://" in name:
        raise UserError(f"{place}: the path {shown(name)} is an address; get the file, and name its place here.")
    return os.path.normpath(name) if os.path.isabs(name) else str(media_file(place, folder, name))  # noqa: PTH117


def _time(place: str, name: str, value: Any) -> float | None:
    """Check a time in seconds; empty ones and NaN, as tables write what is missing, are None."""
    if value is None or value == "" or value != value:
        return None
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < 1e9:
        raise UserError(f"{place}: the {name} is {shown(value)}; times are seconds, from 0.")
    return seconds


def _parquet_entries(table: Path) -> Iterator[Entry]:
    row = 0
    try:
        with ParquetFile(table) as file:
            held = file.schema_arrow.names
            if _COLUMNS[0] not in held:
                raise UserError(f"{table} has no column path; its columns are {', '.join(held) or 'none'}.")
            for batch in file.iter_batches(columns=[name for name in _COLUMNS if name in held]):
                columns = {name: batch[name].to_pylist() for name in batch.schema.names}
                nothing = [None] * batch.num_rows
                for values in zip(*(columns.get(name, nothing) for name in _COLUMNS), strict=True):
                    row += 1
                    yield f"{table}, row {row}", values
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{table} cannot be read as Parquet: {error}; write it again.") from error


def _csv_entries(table: Path) -> Iterator[Entry]:
    return read_table(table, _COLUMNS[:1], _COLUMNS[1:])


def _json_entries(table: Path) -> Iterator[Entry]:
    for place, entry in read_json_lines(table):
        if _COLUMNS[0] not in entry:
            raise UserError(f"{place} has no path: {shown(entry)}; add it.")
        yield place, [entry.get(name) for name in _COLUMNS]


_TABLES: dict[str, Callable[[Path], Iterator[Entry]]] = {
    ".parquet": _parquet_entries,
    ".csv": _csv_entries,
    ".jsonl": _json_entries,
}
"""Readers by suffix."""

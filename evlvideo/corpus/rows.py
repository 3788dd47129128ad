"""What is captioned: rows with ids that stay the same, as objects one at a time and as columns for millions."""

import hashlib
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, overload

import pyarrow as pa
import pyarrow.compute as pc

from evlvideo.data.annotation.messages import shown, some
from evlvideo.errors import UserError

ID_DIGITS = 16
"""Hex digits of an id that is a hash."""
SCHEMA = pa.schema(
    [("id", pa.large_string()), ("path", pa.large_string()), ("start", pa.float64()), ("end", pa.float64())]
)
"""Columns of rows. Large strings, since millions of paths are over 2 GiB."""
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Row:
    """A video, a part of one, or an image to caption."""

    id: str
    """The table's own, or else :func:`row_id`."""
    path: str
    """Absolute path of the file; of a member of a tar shard, `SHARD.tar::MEMBER`."""
    start: float | None = None
    """Start in the file, in seconds. If None, the start of the file."""
    end: float | None = None
    """End in the file, in seconds. If None, the end of the file."""


def row_id(path: str, start: float | None = None, end: float | None = None) -> str:
    """Return the id of a row that has none of its own: the first 16 hex digits of a SHA-256.

    Args:
        path: its path.
        start: its start in seconds.
        end: its end in seconds.
    """
    times = "".join("\0" if time is None else f"\0{float(time)}" for time in (start, end))
    return hashlib.sha256(f"{path}{times}".encode("utf-8", "surrogateescape")).hexdigest()[:ID_DIGITS]


class Rows(Sequence[Row]):
    """A sequence of rows in columns, some 100 bytes each, of which processes that fork share the memory.

    Args:
        table: columns as in :data:`SCHEMA`.
    """

    def __init__(self, table: pa.Table) -> None:
        # In one piece, which a row is found in at once.
        self.table = table.select(SCHEMA.names).cast(SCHEMA).combine_chunks()

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Rows":
        """Collect rows, a few of which are objects at any time."""
        taken = iter(rows)
        chunks = iter(lambda: list(islice(taken, _CHUNK)), [])
        batches = [
            pa.record_batch(
                [pa.array(column, field.type) for column, field in zip(_columns(chunk), SCHEMA, strict=True)], SCHEMA
            )
            for chunk in chunks
        ]
        return cls(pa.Table.from_batches(batches, SCHEMA))

    def __len__(self) -> int:
        """Count the rows."""
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, number: int) -> Row: ...
    @overload
    def __getitem__(self, number: slice) -> "Rows": ...
    def __getitem__(self, number: "int | slice") -> "Row | Rows":
        """Return a row, or those of a slice, which shares the memory.

        Raises:
            IndexError: there is no such row.
        """
        if isinstance(number, slice):
            start, stop, step = number.indices(len(self))
            if step == 1:
                return Rows(self.table.slice(start, max(stop - start, 0)))
            return Rows(self.table.take(pa.array(range(start, stop, step), pa.int64())))
        number = operator.index(number)
        if not -len(self) <= number < len(self):
            raise IndexError(f"The index is {number}; there are {len(self)} rows.")
        number %= len(self)
        return Row(*(column[number].as_py() for column in self.table.columns))

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows in order."""
        for batch in self.table.to_batches(_CHUNK):
            yield from map(Row, *(column.to_pylist() for column in batch.columns))

    def beside(self, known: pa.Table) -> "Rows":
        """Return the rows that are not among others, in order.

        Args:
            known: others, in columns as in :data:`SCHEMA`.

        Raises:
            UserError: an id stands for another row there; the first is named.
        """
        if not known.num_rows:
            return self
        place = pc.index_in(self.table["id"], value_set=known["id"])
        shared = self.table.filter(pc.is_valid(place))
        there = known.select(SCHEMA.names).cast(SCHEMA).take(place.drop_null())
        for name in SCHEMA.names[1:]:
            nothing = "" if name == "path" else -1.0
            differs = pc.not_equal(pc.fill_null(shared[name], nothing), pc.fill_null(there[name], nothing))
            if pc.any(differs).as_py():
                here, other = (
                    Row(*table.filter(differs).slice(0, 1).to_pylist()[0].values()) for table in (shared, there)
                )
                raise UserError(
                    f"The id {shown(here.id)} stands for several rows: {_told(other)} and {_told(here)}. Each row "
                    "comes out once: give every row an id of its own."
                )
        return Rows(self.table.filter(pc.is_null(place)))

    def joined(self, more: "Rows") -> "Rows":
        """Return these rows and those of others that are new, in order.

        Raises:
            UserError: as :meth:`beside`.
        """
        return Rows(pa.concat_tables([self.table, more.beside(self.table).table])) if len(self) else more

    def check_unique(self) -> "Rows":
        """Return these rows, if no two have the same id.

        Raises:
            UserError: an id occurs twice; the first few are named with their paths.
        """
        counted = pc.value_counts(self.table["id"])
        twice = counted.filter(pc.greater(pc.struct_field(counted, "counts"), 1)).field("values")
        if len(twice):
            where = pc.equal(self.table["id"], twice[0])
            paths = self.table.filter(where)["path"].to_pylist()
            more = "" if len(twice) == 1 else f" {len(twice):,} ids occur more than once."
            raise UserError(
                f"The id {shown(twice[0].as_py())} stands for several rows: {some(paths)}. Each row comes out once: "
                f"give every row an id of its own, or remove what is there twice.{more}"
            )
        return self


def _columns(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    return list(zip(*((row.id, row.path, row.start, row.end) for row in rows), strict=True))


def _told(row: Row) -> str:
    times = "" if row.start is None and row.end is None else f" from {row.start or 0:g} s to {row.end or 'its end'}"
    return row.path + times

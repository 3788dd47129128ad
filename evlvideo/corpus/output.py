"""What comes out: a directory of Parquet parts, which appear whole, and a file that says what made them."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.parquet import ParquetFile, write_table

from evlvideo.config.settings import told_differences
from evlvideo.corpus.rows import ID_DIGITS, SCHEMA, Row, Rows
from evlvideo.errors import UserError
from evlvideo.files import read_json, remove_leftovers, replacing, write_json
from evlvideo.results.generated_captions import sole_writer

JOB_NAME = "job.json"
"""Says what made the rows; see :class:`Parts`."""
PARTS = "part-*.parquet"
EXPORTS = {"jsonl": "captions.jsonl", "webvid": "webvid.csv", "txt": "txt", "srt": "srt", "vtt": "vtt"}
"""Other forms of the captions → their files or folders beside the parts."""
OUTPUT_SCHEMA = pa.schema(
    [
        *SCHEMA,
        ("caption", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("log_probability", pa.float64()),
        ("log_probabilities", pa.list_(pa.float64())),
        ("frames", pa.int32()),
        ("error", pa.string()),
        ("checkpoint", pa.string()),
        ("config", pa.string()),
        ("seed", pa.int64()),
    ]
)
"""Columns of a part; `docs/captioning_contract.md` says what is in each."""
_JOB_KEY = b"evlvideo.job"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Made:
    """What came out for a row: captions, or why there are none."""

    captions: tuple[str, ...] = ()
    """The likeliest first."""
    log_probabilities: tuple[float, ...] = ()
    """Of each caption, the mean over its tokens, in nats."""
    frames: int | None = None
    """Different frames that the model saw. None if the row could not be decoded."""
    error: str | None = None
    """Why there are no captions."""


class Parts:
    """The parts of a directory, as earlier calls left them. A part is written whole or not at all.

    Args:
        directory: holds nothing else, or what an earlier call with the same makers wrote.
        made_by: what all captions depend on: plain values by name, with `weights` and `decoding`, which has a `seed`.
        overwrite: remove what an earlier call wrote, whatever made it.

    Raises:
        UserError: the directory holds something else, rows that were made otherwise, or a part that cannot be read.
    """

    def __init__(self, directory: Path, made_by: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self.directory = directory
        job = {"format": _FORMAT, **json.loads(json.dumps(made_by))}
        self.digest = hashlib.sha256(json.dumps(job, sort_keys=True).encode()).hexdigest()[:ID_DIGITS]
        """Of all that captions depend on: the column `config`."""
        self._made_by = job
        check_is_job(directory)
        remove_leftovers(directory)
        path = directory / JOB_NAME
        if overwrite:
            _clear(directory)
        if files_of(directory):
            _check_same(directory, read_json(path), job)
        else:
            write_json(path, job)  # also over that of a call which failed before its first row
        self.done = self._read()
        """Rows that had come out before, with `error`."""
        self._number = 1 + max(map(_number_of, files_of(directory)), default=0)

    def _read(self) -> pa.Table:
        schema = pa.schema([*SCHEMA, OUTPUT_SCHEMA.field("error")])
        found = [pa.table({field.name: [] for field in schema}, schema)]
        for file in files_of(self.directory):
            with open_part(file) as part:
                if (part.schema_arrow.metadata or {}).get(_JOB_KEY, b"").decode() != self.digest:
                    raise UserError(
                        f"{file} was not written by the job of {self.directory / JOB_NAME}; move it elsewhere."
                    )
                found.append(part.read(schema.names).cast(schema))
        done = pa.concat_tables(found)
        Rows(done).check_unique()
        return done

    def write(self, made: Sequence[tuple[Row, Made]]) -> None:
        """Write this part, over what was written of it; nothing if there are no rows.

        Raises:
            UserError: it cannot be written.
        """
        if not made:
            return
        table = self._table(made)
        with replacing(self.directory / f"part-{self._number:06d}.parquet") as temporary:
            write_table(table, temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())  # also whole after a loss of power

    def begin_next(self) -> None:
        """Go on to the next part."""
        self._number += 1

    def _table(self, made: Sequence[tuple[Row, Made]]) -> pa.Table:
        common = {
            "checkpoint": self._made_by["weights"],
            "config": self.digest,
            "seed": self._made_by["decoding"]["seed"],
        }
        rows = [
            {
                "id": row.id,
                "path": row.path,
                "start": row.start,
                "end": row.end,
                "caption": next(iter(out.captions), None),
                "captions": out.captions,
                "log_probability": next(iter(out.log_probabilities), None),
                "log_probabilities": out.log_probabilities,
                "frames": out.frames,
                "error": out.error,
                **common,
            }
            for row, out in made
        ]
        metadata = {_JOB_KEY: self.digest, b"evlvideo.made_by": json.dumps(self._made_by, ensure_ascii=False)}
        return pa.Table.from_pylist(rows, OUTPUT_SCHEMA.with_metadata(metadata))


@contextmanager
def open_parts(directory: Path, made_by: Mapping[str, Any], *, overwrite: bool = False) -> Iterator[Parts]:
    """Take a directory for this process, and yield its :class:`Parts`. Create it if needed.

    Args:
        directory: where rows come out.
        made_by: see :class:`Parts`.
        overwrite: see there.

    Raises:
        UserError: as :class:`Parts`; or another process writes to it.
    """
    check_is_job(directory)
    with sole_writer(directory / JOB_NAME):
        yield Parts(directory, made_by, overwrite=overwrite)


def check_is_job(directory: Path) -> None:
    """Check that a directory is missing, empty, or a captioning job's own.

    Raises:
        UserError: it is a file, or holds something else.
    """
    if directory.exists() and not directory.is_dir():
        raise UserError(f"{directory} is a file; name a directory for the rows, or captions.jsonl for a dataset.")
    if directory.is_dir() and not (directory / JOB_NAME).exists():
        # A call that was killed at once leaves its lock, and half a file beside it.
        others = [file.name for file in directory.iterdir() if not file.name.startswith(f".{JOB_NAME}.")]
        if others:
            raise UserError(
                f"{directory} holds {', '.join(sorted(others)[:3])}, but no {JOB_NAME}, so it is not a captioning "
                "job's; name a new directory."
            )


def files_of(directory: Path) -> list[Path]:
    """List the parts of a directory, in the order in which they were written."""
    return sorted(directory.glob(PARTS))


@contextmanager
def open_part(file: Path) -> Iterator[ParquetFile]:
    """Open a part for reading.

    Raises:
        UserError: it cannot be read, or is none.
    """
    try:
        with ParquetFile(file) as part:
            yield part
    except (pa.ArrowException, KeyError, OSError) as error:
        raise UserError(f"{file} cannot be read: {error}; remove it, and its rows are captioned again.") from error


def read_records(directory: Path, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield what came out for each row, by column, in the order of the parts.

    Args:
        directory: a job's.
        columns: of them. Defaults to all.

    Raises:
        UserError: a part cannot be read.
    """
    for file in files_of(directory):
        with open_part(file) as part:
            for batch in part.iter_batches(columns=columns):
                yield from batch.to_pylist()


def _check_same(directory: Path, there: Any, job: Mapping[str, Any]) -> None:
    differences = told_differences(there if isinstance(there, dict) else {}, job)
    if differences:
        raise UserError(
            f"{directory} holds rows that were made otherwise; name another --out, or start anew with --overwrite:\n"
            + "\n".join(differences)
        )


def _clear(directory: Path) -> None:
    """Remove the rows of a job, and their other forms. What else is there stays."""
    for file in [*files_of(directory), *(directory / name for name in EXPORTS.values())]:
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)


def _number_of(part: Path) -> int:
    number = part.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0

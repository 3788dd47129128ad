"""Subtitles of the films that a captioning job has cut into parts."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from evlvideo.corpus.films.joining import Cue, join_captions
from evlvideo.corpus.output import files_of, open_part

_COLUMNS = ["path", "start", "end", "caption"]


def cues_by_film(directory: Path) -> Iterator[tuple[str, list[Cue]]]:
    """Yield each film of a job with its cues, by path. Rows without times or captions are left out.

    Args:
        directory: the job's.

    Raises:
        UserError: a part cannot be read.
    """
    tables = []
    for file in files_of(directory):
        with open_part(file) as part:
            # Dropped part by part: of a million rows, most may be whole clips.
            tables.append(part.read(_COLUMNS).drop_null())
    if not tables:
        return
    # Parts of one film may lie far apart, where later calls went on.
    table = pa.concat_tables(tables).sort_by([("path", "ascending"), ("start", "ascending")])
    records = (record for batch in table.to_batches(1 << 12) for record in batch.to_pylist())
    for path, of_film in groupby(records, lambda record: str(record["path"])):
        yield path, join_captions(Cue(record["start"], record["end"], record["caption"]) for record in of_film)

"""Read parquet files, as the hub hands datasets on, with images inside."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evlvideo.cache import cache_directory
from evlvideo.data.annotation.messages import shown
from evlvideo.errors import UserError
from evlvideo.files import replacing

_ROWS = 64
"""Rows in memory at a time; each holds its image."""
_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png"}
"""First bytes → suffix."""


def read_rows(paths: Sequence[Path], columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the values of each row.

    Raises:
        UserError: a file cannot be read, or has not all columns.
    """
    from pyarrow import ArrowException  # takes a third of a second, and configs read the names of the datasets
    from pyarrow.parquet import ParquetFile

    for path in paths:
        try:
            with ParquetFile(path) as file:
                missing = [name for name in columns if name not in file.schema_arrow.names]
                if missing:
                    raise UserError(f"{path} has no column {', '.join(missing)}; get the file again.")
                batches = file.iter_batches(_ROWS, columns=list(columns))
                rows = (row for batch in batches for row in batch.to_pylist())
                for number, row in enumerate(rows):
                    yield f"{path}, row {number}", row
        except (ArrowException, OSError) as error:
            raise UserError(f"{path} cannot be read: {error}; get the file again.") from error


def unpacked_image(place: str, value: Any) -> Path:
    """Return the file of an image that a row holds as `{"bytes": …}`; write it into the cache if it is not there.

    Equal images have one file, which is named by their content.

    Raises:
        UserError: the value holds no bytes, or the cache cannot be written to.
    """
    content = value.get("bytes") if isinstance(value, dict) else None
    if not isinstance(content, bytes) or not content:
        raise UserError(f"{place}: the image is {shown(value)}; its bytes must be in the file: get it again.")
    suffix = next((suffix for begin, suffix in _SUFFIXES.items() if content.startswith(begin)), ".jpg")
    digest = hashlib.sha256(content).hexdigest()[:24]
    file = cache_directory() / "images" / digest[:2] / f"{digest}{suffix}"
    if not file.is_file() or file.stat().st_size != len(content):
        with replacing(file) as temporary:
            temporary.write_bytes(content)
    return file

"""Read the JSON files of results, each of which names its schema."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from evlvideo.errors import UserError
from evlvideo.files import read_json


def read_fields(path: Path, schema: str, names: Collection[str], *, kind: str, written_by: str) -> dict[str, Any]:
    """Read the fields of a result file, without its schema.

    Args:
        path: the file.
        schema: what it must name.
        names: fields that it may have.
        kind: what such a file is called.
        written_by: the commands that write such files, for the message.

    Raises:
        UserError: it is missing, is not JSON, has another schema, or has unknown fields.
    """
    content = read_json(path)
    found = content.pop("schema", None) if isinstance(content, dict) else None
    if found != schema:
        raise UserError(
            f"{path} is not {kind}: its schema is {found!r}, and {schema!r} is expected. {written_by} such files."
        )
    if unknown := sorted(set(content) - set(names)):
        raise UserError(f"{path} has unknown fields: {', '.join(unknown)}; allowed: {', '.join(sorted(names))}.")
    fields: dict[str, Any] = content
    return fields

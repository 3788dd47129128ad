"""Write files whole or not at all, and keep paths from data under their root."""

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evlvideo.errors import UserError, why_not_written

_ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|(?P<half>u[dD][89a-fA-F][\da-fA-F]{2})|.)", re.DOTALL
)
"""An escape in JSON; two for a character beyond the first 65,536."""
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}(?P<suffix>\.[^.]+)?")
"""Names of temporary files: the name, what `tempfile` draws, and the suffix of files again."""
_OF_SAFETENSORS = re.compile(r"\.tmp[A-Za-z0-9]{6}")
"""Names that safetensors writes under before it renames."""
A_DAY = 24 * 3600.0
"""Seconds that nobody who still writes lets pass."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` on success, remove it on failure.

    Raises:
        UserError: the directory of `path` cannot be made or written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only their owner can read.
        give_ordinary_permissions(temporary)
        temporary.replace(path)
    except Exception as error:
        if reason := why_not_written(error):
            raise UserError(f"{path} cannot be written: {reason}.") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary directory beside `path`; rename it to `path` on success, remove it on failure.

    Raises:
        UserError: `path` exists and is not an empty directory, or its parent cannot be written to.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path} exists already; name a new directory, or remove that one first.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, of=path.name, untouched_seconds=A_DAY)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        temporary.replace(path)
    except Exception as error:
        if reason := why_not_written(error):
            raise UserError(f"{path} cannot be written: {reason}.") from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(directory: Path, *, of: str | None = None, untouched_seconds: float = 0) -> list[Path]:
    """Remove the unfinished files of killed writers: those of :func:`replacing`, :func:`new_directory`, safetensors.

    Their names are random where others' are not, and links are left alone.

    Args:
        directory: looked into, but not below. Nobody else may be writing there, unless `untouched_seconds` is long.
        of: name of the file or directory that they were to become. If None, any file, but no directory.
        untouched_seconds: how long nothing may have been written to them.

    Returns:
        what was removed.
    """
    before = time.time() - untouched_seconds
    try:
        unfinished = [path for path in directory.iterdir() if _is_leftover(path, of) and _last_write(path) <= before]
    except OSError:
        return []
    for path in unfinished:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return unfinished


def _is_leftover(path: Path, of: str | None) -> bool:
    match = _TEMPORARY.fullmatch(path.name)
    ours = match is not None and Path(match["name"]).suffix == (match["suffix"] or "")
    if of is None:
        return (ours or _OF_SAFETENSORS.fullmatch(path.name) is not None) and path.is_file() and not path.is_symlink()
    return ours and match is not None and match["name"] == of and not path.is_symlink()


def _last_write(path: Path) -> float:
    return max(file.lstat().st_mtime for file in (path, *path.rglob("*")))


def give_ordinary_permissions(path: Path) -> None:
    """Give a file the permissions of the user's other files; some libraries write for their owner alone."""
    path.chmod(0o666 & ~_umask())


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing, is not JSON, or holds half of a surrogate pair (with the line and column).
    """
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a JSON file: {error}.") from error


def parse_json(text: str, object_of: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """Parse JSON. Refuse half of a surrogate pair, which JSON can escape and no file or tokenizer can hold.

    Args:
        text: the JSON.
        object_of: makes an object of its keys and values. Defaults to a dictionary.

    Raises:
        ValueError: with the line and column.
    """
    value = json.loads(text, object_pairs_hook=object_of)
    place = half_character(text)
    if place is not None:
        raise json.JSONDecodeError(f"{text[place : place + 6]} is half of a character", text, place)
    return value


def half_character(text: str, start: int = 0, end: int | None = None) -> int | None:
    """Return the index of the first half of a surrogate pair among the escapes of JSON, or `None`."""
    # Most files have no such escape, and these searches cost nothing.
    if text.find("\\ud", start, end) < 0 and text.find("\\uD", start, end) < 0:
        return None
    escapes = _ESCAPE.finditer(text, start, len(text) if end is None else end)
    return next((escape.start() for escape in escapes if escape["half"]), None)


def parse_object(line: str) -> dict[str, Any] | None:
    """Parse a line of JSON; `None` if it is not an object, as half a line that a killed program left."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def at_home(name: str) -> str:
    """Replace a `~` at the beginning of a path by the user's home; for a user that there is not, it stays."""
    return os.path.expanduser(name)  # noqa: PTH111  (pathlib's raises, and tidies up other names)


def inside(root: Path, name: str) -> Path:
    """Join a name from an annotation to `root`.

    Links under `root` are the user's own, such as links into a storage pool, and are followed.

    Raises:
        UserError: the name is absolute or leads out of `root`.
    """
    # Compared as names, since resolving would follow links; absolute, since `..` is not under `.`.
    path = root.absolute() / name
    if "\0" in name or not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(root.absolute())):
        raise UserError(f"The annotation names {name!r}, which lies outside {root}; names must stay under it.")
    return Path(os.path.normpath(root / name))

"""Render a dataset once: its directory appears complete, and is found again."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from evlvideo.errors import UserError
from evlvideo.files import new_directory, read_json, write_json


def build_once(root: Path, what: str, facts_file: str, facts: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """Build a dataset in `root`, unless `root` has it already.

    The directory appears only when it is complete. If two processes build at once, the slower one uses the result of
    the faster.

    Args:
        root: directory of the dataset.
        what: what it is called in messages.
        facts_file: name of the file of its facts.
        facts: what the dataset depends on; values as JSON has them.
        build: writes all other files into a directory.

    Returns:
        `root`.

    Raises:
        UserError: `root` holds something else, or cannot be written.
    """
    if _holds(root, what, facts_file, facts):
        return root
    try:
        with new_directory(root) as building:
            build(building)
            write_json(building / facts_file, facts)
    except (OSError, UserError) as error:
        if not _holds(root, what, facts_file, facts):
            reason = getattr(error.__cause__ or error, "strerror", None) or error
            raise UserError(
                f"The {what} cannot be written to {root}: {reason}; "
                "name another directory, or set EVLVIDEO_CACHE to one that can be written."
            ) from error
    return root


def _holds(root: Path, what: str, facts_file: str, facts: Mapping[str, Any]) -> bool:
    """Check whether `root` holds this dataset; raise if it holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    if not (root / facts_file).is_file() or (found := read_json(root / facts_file)) != facts:
        other = "other files" if not (root / facts_file).is_file() else f"another build ({found})"
        raise UserError(f"{root} holds {other}, not the {what} {facts}; delete it or name another directory.")
    return True

"""Leave out of training the files that `evlvideo data check-videos` could not decode."""

import json
import logging
from collections import defaultdict
from pathlib import Path

import numpy as np

from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.errors import UserError

logger = logging.getLogger(__name__)


def read_quarantine(path: Path) -> frozenset[Path]:
    """Read a list of bad files, as absolute paths.

    Raises:
        UserError: the file cannot be read, or is not a quarantine list.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The quarantine list {path} cannot be read: {error}.") from error
    bad = set()
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            bad.add(Path(entry["root"], entry["path"]))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is not a quarantine list: line {number} has no root and path. `evlvideo data check-videos` "
                "writes one."
            ) from error
    return frozenset(bad)


def without_quarantined(clips: ClipTable, bad: frozenset[Path], name: str) -> ClipTable:
    """Leave out the clips whose file is bad, and log how many.

    Args:
        clips: clips to train on.
        bad: absolute paths of bad files.
        name: name of the clips in the log.

    Raises:
        UserError: no clip is left.
    """
    names: dict[Path, set[str]] = defaultdict(set)
    for path in bad:
        names[path.parent].add(path.name)
    folders = [names.get(Path(folder).resolve(), set()) for folder in clips.folders]
    of_clips = clips.folder_numbers()
    # Of millions of clips, few share a folder with a bad file.
    suspects = np.flatnonzero(np.isin(of_clips, [number for number, inside in enumerate(folders) if inside]))
    found = [number for number in suspects.tolist() if clips.file_name(number) in folders[of_clips[number]]]
    logger.info("%s: %d of %d clips are in quarantine and left out", name, len(found), len(clips))
    if len(found) == len(clips):
        raise UserError(f"All {len(clips)} clips of {name} are in quarantine; nothing is left to train on.")
    return clips.take(np.delete(np.arange(len(clips)), found)) if found else clips

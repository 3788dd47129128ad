"""The files that `evlvideo data check-videos` could not decode, left out of training before it meets them."""

import json
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from evlvideo.data.captioned import CaptionedClip
from evlvideo.errors import UserError

logger = logging.getLogger(__name__)


def read_quarantine(path: Path) -> frozenset[Path]:
    """Read a list of bad files, as absolute paths.

    Raises:
        UserError: the file cannot be read, or is no such list.
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


def without_quarantined(clips: Sequence[CaptionedClip], bad: frozenset[Path], name: str) -> list[CaptionedClip]:
    """Leave out the clips whose file is bad, and say how many.

    Args:
        clips: to train on.
        bad: absolute paths.
        name: what the log calls the clips.

    Raises:
        UserError: no clip is left.
    """
    folder = cache(Path.resolve)  # of few folders with many files
    kept = [clip for clip in clips if folder(clip.video.parent) / clip.video.name not in bad]
    logger.info("%s: %d of %d clips are in quarantine and left out", name, len(clips) - len(kept), len(clips))
    if not kept:
        raise UserError(f"All {len(clips)} clips of {name} are in quarantine; nothing is left to train on.")
    return kept

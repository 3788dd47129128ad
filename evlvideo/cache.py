"""The directory of files that can be made again."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """Return `$EVLVIDEO_CACHE`, else `$XDG_CACHE_HOME/evlvideo`, else `~/.cache/evlvideo`; it need not exist."""
    if named := os.environ.get("EVLVIDEO_CACHE"):
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evlvideo"

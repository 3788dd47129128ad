"""Find the files that cannot be decoded, before training."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from evlvideo.data.media.containers import VIDEO_SUFFIXES
from evlvideo.data.media.errors import DecodeError
from evlvideo.data.video.backends.image import IMAGE_SUFFIXES
from evlvideo.data.video.guarded import DecodeProcess, with_helpers
from evlvideo.data.video.working_time import WorkingTime
from evlvideo.errors import UserError
from evlvideo.files import write_text
from evlvideo.progress import Progress

SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES
"""Suffixes of files that are looked for, in lower case."""
PROGRESS_NAME = "check-progress.jsonl"
QUARANTINE_NAME = "quarantine.jsonl"


@dataclass(frozen=True, slots=True)
class Checked:
    """Result for one file."""

    path: str
    """Path from the root, with forward slashes."""
    size: int
    """Bytes; −1 if unknown."""
    mtime: int
    """Time of the last change, in nanoseconds since 1970; −1 if unknown."""
    looked_at: int | None
    """Number of frames that were decoded. If None, all."""
    frames: int | None
    """Number of frames in the file. If None, it cannot be decoded."""
    reason: str | None
    """Why it cannot be decoded. If None, it can."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Results for a directory."""

    files: tuple[Checked, ...]
    """Every file, by path."""
    quarantine: Path
    """File that lists the files that cannot be decoded."""

    @property
    def bad(self) -> tuple[Checked, ...]:
        """The files that cannot be decoded."""
        return tuple(file for file in self.files if file.reason is not None)


def check_videos(
    root: Path,
    out: Path,
    *,
    frames: int | None = None,
    processes: int = 1,
    time_limit_seconds: float = 600.0,
    console: Console | None = None,
) -> CheckReport:
    """Decode every video and image under a directory, in helper processes.

    Results are written file by file, so that an interrupted check continues. Files whose size or time has changed are
    checked again. Linked files are checked; linked directories are not entered.

    Args:
        root: directory of the collection.
        out: directory for the progress and for the quarantine list: a line of JSON for each bad file, with the
            `root`, `path` from there, `reason`, `size` in bytes, and `mtime` in nanoseconds.
        frames: number of evenly spread frames of each file to decode. If None, decode all, with
            every check that decoders offer; see :mod:`evlvideo.data.video.backends.strict`.
        processes: number of files at a time.
        time_limit_seconds: upper bound for one file.
        console: where to draw a progress bar. If None, draw none.

    Raises:
        UserError: the root is not a directory or holds nothing to check, or `out` cannot be written to.
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a directory; name the one that holds the videos.")
    if processes < 1 or (frames is not None and frames < 1):
        raise UserError(f"processes is {processes} and frames {frames}; both must be at least 1.")
    paths = list(media_files(root))
    if not paths:
        raise UserError(f"{root} holds no videos; files with these endings are checked: {', '.join(sorted(SUFFIXES))}.")
    known = _read_progress(out / PROGRESS_NAME)
    states = [_state(root, path, frames) for path in paths]
    found = {state.path: known[state.path] for state in states if _same(state, known.get(state.path))}
    remaining = [state for state in states if state.path not in found]
    progress = Progress("checking", len(states), console=console, unit="files", done=len(found))
    with _appending(out / PROGRESS_NAME) as note, progress:
        for checked in with_helpers(
            lambda helper, state: _check(helper, root, state, time_limit_seconds), remaining, processes
        ):
            note(checked)
            found[checked.path] = checked
            progress.advance()
    report = CheckReport(tuple(found[state.path] for state in states), out / QUARANTINE_NAME)
    write_text(report.quarantine, "".join(_quarantine_line(root, file) for file in report.bad))
    return report


def media_files(root: Path) -> Iterator[Path]:
    """Yield the videos and images under a directory, sorted, and what else has such a suffix, such as named pipes.

    Hidden files are left out. Linked files are there; linked directories are not entered.
    """
    for directory, directories, names in os.walk(root):
        directories.sort()
        for name in sorted(names):
            path = Path(directory, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                yield path


def _state(root: Path, path: Path, frames: int | None) -> Checked:
    """Describe a file before it is checked."""
    try:
        status = path.stat()
        size, mtime = status.st_size, status.st_mtime_ns
    except OSError:
        size = mtime = -1
    return Checked(path.relative_to(root).as_posix(), size, mtime, frames, None, None)


def _same(state: Checked, known: Checked | None) -> bool:
    return known is not None and asdict(known) == {**asdict(state), "frames": known.frames, "reason": known.reason}


def _check(helper: DecodeProcess, root: Path, state: Checked, time_limit_seconds: float) -> Checked:
    path = root / state.path
    frames, reason = None, None
    try:
        helper.start()
        frames = helper.ask(path, "check", (path, state.looked_at), WorkingTime(time_limit_seconds))
    except DecodeError as error:
        reason = str(error)
    return Checked(state.path, state.size, state.mtime, state.looked_at, frames, reason)


def _read_progress(path: Path) -> dict[str, Checked]:
    """Read earlier results. Skip incomplete lines, which a killed process may leave."""
    found: dict[str, Checked] = {}
    if not path.is_file():
        return found
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            checked = Checked(**json.loads(line))
        except (ValueError, TypeError):
            continue
        found[checked.path] = checked
    return found


@contextmanager
def _appending(path: Path) -> Iterator[Callable[[Checked], None]]:
    """Append to the progress file, a line at a time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            if file.tell() and path.read_bytes()[-1:] != b"\n":
                file.write("\n")

            def note(checked: Checked) -> None:
                file.write(json.dumps(asdict(checked)) + "\n")
                file.flush()

            yield note
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error


def _quarantine_line(root: Path, file: Checked) -> str:
    entry = {
        "root": str(root.resolve()),
        "path": file.path,
        "reason": file.reason,
        "size": file.size,
        "mtime": file.mtime,
    }
    return json.dumps(entry) + "\n"

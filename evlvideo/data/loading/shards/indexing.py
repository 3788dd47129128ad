"""Index many shards in several processes; of several runs that start at once, one makes the indexes."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout
from rich.console import Console

from evlvideo.data.media.shard_index import count_samples, index_file, make_index, open_index
from evlvideo.data.media.shard_members import MOST_SECONDS
from evlvideo.data.video.guarded import DecodeProcess, with_helpers
from evlvideo.data.video.working_time import WorkingTime
from evlvideo.errors import UserError
from evlvideo.progress import Progress

THREADS = 16
"""Indexes opened at a time, for slow file systems."""

_LOCK_NAME = ".evlvideo-indexes.lock"
_WORTH_HELPERS_BYTES = 100 << 20
"""Lower bound of bytes in shards at which helper processes are worthwhile."""

Task = TypeVar("Task")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Indexed:
    """The outcome for one shard."""

    shard: Path
    samples: int
    left_out: int
    """Samples without media or a caption."""
    made: bool
    """Whether the index was made now. If False, it existed."""
    reason: str | None = None
    """Why the shard has no valid index. If None, it has one."""


def index_shards(
    shards: Sequence[Path], index_root: Path | None = None, *, processes: int = 1, console: Console | None = None
) -> list[Indexed]:
    """Make missing indexes, and check existing ones byte by byte.

    Each index is written as soon as its shard has been read, so an interrupted call continues where it stopped.

    Args:
        shards: tar files.
        index_root: directory of the indexes; see :func:`evlvideo.data.media.shard_index.index_file`.
        processes: number of shards at a time.
        console: where to draw a progress bar. If None, draw none.

    Raises:
        UserError: processes is below 1, or a helper process does not start.
    """
    if processes < 1:
        raise UserError(f"processes is {processes}; it must be at least 1.")
    found: dict[Path, Indexed] = {}
    files = {shard: index_file(shard, index_root) for shard in shards}
    with Progress("indexing", len(shards), console=console, unit="shards") as progress:
        there = [shard for shard, file in files.items() if file.exists()]
        for indexed in _in_threads(lambda shard: _checked(shard, files[shard]), there):
            found[indexed.shard] = indexed
            progress.advance()
        missing = [shard for shard in shards if shard not in found]
        for indexed in _make(missing, files, processes):
            found[indexed.shard] = indexed
            progress.advance()
    return [found[shard] for shard in shards]


def counts(shards: Sequence[Path], index_root: Path | None = None) -> list[int]:
    """Count the samples of shards. One of the calling processes makes missing indexes.

    Raises:
        UserError: a shard or an index cannot be read, or does not match the other.
    """
    files = {shard: index_file(shard, index_root) for shard in shards}
    if _missing(files):
        with _alone(files[shards[0]].parent):
            # After waiting for another process, nothing is missing any more.
            made = list(_make(_missing(files), files, os.cpu_count() or 1))
        reasons = [indexed.reason for indexed in made if indexed.reason is not None]
        if reasons:
            more = f"\nand {len(reasons) - 10} more; `evlvideo data index` lists all" if len(reasons) > 10 else ""
            raise UserError("\n".join(reasons[:10]) + more)
    return list(_in_threads(lambda shard: _count(shard, files[shard]), shards))


def _missing(files: dict[Path, Path]) -> list[Path]:
    exist = _in_threads(Path.exists, list(files.values()))
    return [shard for shard, exists in zip(files, exist, strict=True) if not exists]


def _count(shard: Path, file: Path) -> int:
    try:
        return count_samples(shard, file)
    except OSError as error:
        raise UserError(_reason(shard, error)) from error


def _checked(shard: Path, file: Path) -> Indexed:
    try:
        index = open_index(shard, file)
    except (OSError, UserError) as error:
        return Indexed(shard, 0, 0, False, _reason(shard, error))
    return Indexed(shard, len(index), index.left_out, False)


def _reason(shard: Path, error: OSError | UserError) -> str:
    if isinstance(error, UserError):
        return str(error)
    if shard.is_symlink() and not shard.exists():
        return f"The shard {shard} is a link to {shard.readlink()}, which does not exist; correct or remove the link."
    return f"The shard {shard} cannot be read: {error.strerror or error}."


def _make(shards: Sequence[Path], files: dict[Path, Path], processes: int) -> Iterator[Indexed]:
    def with_helper(helper: DecodeProcess, shard: Path) -> Indexed:
        def ask() -> tuple[int, int]:
            helper.start()
            arguments = (shard, files[shard])
            answer: tuple[int, int] = helper.ask(shard, "index_shard", arguments, WorkingTime(MOST_SECONDS))
            return answer

        return _made(shard, ask)

    def here(shard: Path) -> Indexed:
        def make() -> tuple[int, int]:
            index = make_index(shard, files[shard])
            return len(index), index.left_out

        return _made(shard, make)

    if min(processes, len(shards)) > 1 and sum(map(_bytes, shards)) >= _WORTH_HELPERS_BYTES:
        yield from with_helpers(with_helper, shards, min(processes, len(shards)))
    else:
        yield from map(here, shards)


def _made(shard: Path, make: Callable[[], tuple[int, int]]) -> Indexed:
    try:
        samples, left_out = make()
    except (OSError, UserError) as error:
        return Indexed(shard, 0, 0, False, _reason(shard, error))
    if left_out:
        logger.warning(
            "%s: %d of %d samples lack media or a caption, and are left out.", shard, left_out, left_out + samples
        )
    return Indexed(shard, samples, left_out, True)


def _bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _in_threads(work: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
    with ThreadPoolExecutor(THREADS) as threads:
        yield from threads.map(work, tasks)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory; its hidden lock file stays."""
    lock = FileLock(directory / _LOCK_NAME)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("Waiting for another process that makes the indexes in %s.", directory)
            lock.acquire()
    except OSError as error:
        raise UserError(f"{directory} cannot be written to: {error.strerror or error}.") from error
    try:
        yield
    finally:
        lock.release()

"""The indexes of many shards, made by several processes, and by one run alone where several begin at once."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TypeVar

from filelock import FileLock, Timeout
from rich.console import Console

from evlvideo.data.media.shard_index import count_samples, index_file, make_index, open_index
from evlvideo.data.video.guarded import DecodeProcess, with_helpers
from evlvideo.errors import UserError
from evlvideo.progress import progress_bar

THREADS = 16
"""Indexes looked at at a time, on file systems that take their time for each."""

_LOCK_NAME = ".evlvideo-indexes.lock"
_LIMIT_SECONDS = 3600.0
_WORTH_HELPERS_BYTES = 100 << 20
"""Below so many bytes of shards, starting a process takes longer than what it helps with."""

Task = TypeVar("Task")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Indexed:
    """What came out for one shard."""

    shard: Path
    samples: int
    left_out: int
    """Samples without media or a caption."""
    made: bool
    """Whether the index was made now; else it was there."""
    reason: str | None = None
    """Why there is no index, or not that of the shard; then there are no samples."""


def index_shards(
    shards: Sequence[Path], index_root: Path | None = None, *, processes: int = 1, console: Console | None = None
) -> list[Indexed]:
    """Make the indexes that are missing, and check those that are there to their last byte.

    Each is written when its shard was gone through, so that what was stopped goes on where it was.

    Args:
        shards: tar files.
        index_root: directory of the indexes, see :func:`evlvideo.data.media.shard_index.index_file`.
        processes: how many shards are gone through at a time.
        console: where to show a progress bar.

    Raises:
        UserError: there are no processes, or they do not start.
    """
    if processes < 1:
        raise UserError(f"processes is {processes}; it must be at least 1.")
    found: dict[Path, Indexed] = {}
    files = {shard: index_file(shard, index_root) for shard in shards}
    with progress_bar(console) as bar:
        task = bar.add_task("indexing", total=len(shards))
        there = [shard for shard, file in files.items() if file.exists()]
        for indexed in _in_threads(lambda shard: _checked(shard, files[shard]), there):
            found[indexed.shard] = indexed
            bar.advance(task)
        missing = [shard for shard in shards if shard not in found]
        for indexed in _make(missing, files, processes):
            found[indexed.shard] = indexed
            bar.advance(task)
    return [found[shard] for shard in shards]


def counts(shards: Sequence[Path], index_root: Path | None = None) -> list[int]:
    """Count the samples of shards; indexes that are missing are made by one of the processes that ask.

    Raises:
        UserError: a shard or an index cannot be read, or they do not belong together.
    """
    files = {shard: index_file(shard, index_root) for shard in shards}
    if _missing(files):
        with _alone(files[shards[0]].parent):
            # Where another process was waited for, nothing is missing any more.
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
        raise UserError(f"The shard {shard} cannot be read: {error.strerror or error}.") from error


def _checked(shard: Path, file: Path) -> Indexed:
    try:
        index = open_index(shard, file)
    except (OSError, UserError) as error:
        return Indexed(shard, 0, 0, False, str(error))
    return Indexed(shard, len(index), index.left_out, False)


def _make(shards: Sequence[Path], files: dict[Path, Path], processes: int) -> Iterator[Indexed]:
    def with_helper(helper: DecodeProcess, shard: Path) -> Indexed:
        def ask() -> tuple[int, int]:
            helper.start()
            arguments = (shard, files[shard])
            answer: tuple[int, int] = helper.ask(
                shard, "index_shard", arguments, monotonic() + _LIMIT_SECONDS, _LIMIT_SECONDS
            )
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
        return Indexed(shard, 0, 0, False, str(error))
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
    """Let one process at a time work in a directory; a hidden file in it, which stays, is what is locked."""
    lock = FileLock(directory / _LOCK_NAME)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            logger.info("Another process makes the indexes in %s, and is waited for.", directory)
            lock.acquire()
    except OSError as error:
        raise UserError(f"{directory} cannot be written to: {error.strerror or error}.") from error
    try:
        yield
    finally:
        lock.release()

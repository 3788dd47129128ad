"""The log file of a command: its lines from the first on, and how it ended."""

import errno
import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evlvideo.errors import UserError
from evlvideo.progress import Progress
from evlvideo.terminal import log_file, prepare, say, show

logger = logging.getLogger("evlvideo.somewhere")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    ours, root = logging.getLogger("evlvideo"), logging.getLogger()
    before = ours.level, root.handlers[:]
    yield
    ours.level, root.handlers[:] = before


def lines(path: Path) -> list[str]:
    """The lines without their times."""
    return [line.split("  ", 1)[1] for line in path.read_text().splitlines()]


def test_a_file_has_the_lines_from_the_first_on(tmp_path: Path) -> None:
    prepare("begins")
    logger.info("before")
    with log_file(tmp_path / "run" / "train.log"):
        logger.info("inside")
        assert lines(tmp_path / "run" / "train.log")[-1] == "inside"
    logger.info("after")
    assert lines(tmp_path / "run" / "train.log") == ["begins", "before", "inside"]


def test_each_of_several_files_has_its_own_lines(tmp_path: Path) -> None:
    prepare()
    for name in ("a", "b"):
        logger.info("before %s", name)
        with log_file(tmp_path / name):
            logger.info("inside %s", name)
    assert lines(tmp_path / "b") == ["before b", "inside b"]


def test_a_further_call_adds_its_lines(tmp_path: Path) -> None:
    for name in ("first", "second"):
        prepare(name)
        with log_file(tmp_path / "log"):
            pass
    assert lines(tmp_path / "log") == ["first", "second"]


def test_a_file_says_how_the_command_ended(tmp_path: Path) -> None:
    prepare()
    with pytest.raises(UserError), log_file(tmp_path / "log"):
        raise UserError("Stopped at step 3.")
    with pytest.raises(ValueError, match="broken"), log_file(tmp_path / "other"):
        raise ValueError("broken")
    assert lines(tmp_path / "log") == ["Stopped at step 3."]
    assert "Traceback" in (tmp_path / "other").read_text()


def test_a_program_that_calls_the_package_gets_no_file(tmp_path: Path) -> None:
    logging.getLogger("evlvideo").handlers[:] = []
    with log_file(tmp_path / "log"):
        logger.warning("inside")
    assert not (tmp_path / "log").exists()


class Gone(io.StringIO):
    """Standard error or output whose reader has gone."""

    def __init__(self, error: int) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise OSError(self.error, os.strerror(self.error))

    def flush(self) -> None:
        self.write("")


@pytest.mark.parametrize("error", [errno.EPIPE, errno.EIO, errno.ENOSPC])
def test_work_goes_on_when_nobody_reads_what_is_told(
    error: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "stderr", Gone(error))
    console = prepare("begins")
    with log_file(tmp_path / "log"), Progress("work", 2, console=console) as progress:
        logger.warning("a line")
        progress.advance()
        sys.stderr.write("a library's own line\n")
    monkeypatch.setattr(sys, "stdout", Gone(error))
    say("done")
    show("a table")
    assert lines(tmp_path / "log") == ["begins", "a line"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_work_goes_on_when_its_log_file_cannot_grow(capfd: pytest.CaptureFixture[str]) -> None:
    prepare()
    with log_file(Path("/dev/full")):
        logger.info("a line")
    assert "Logging error" not in capfd.readouterr().err

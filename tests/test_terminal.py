"""The log file of a command: its lines from the first on, and how it ended."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from evlvideo.errors import UserError
from evlvideo.terminal import log_file, prepare

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

"""What a long command says while it works: a bar on a terminal, lines in logs."""

import io
import logging

import pytest
from rich.console import Console

from evlvideo import progress as module
from evlvideo.progress import Progress, spelled_seconds, timed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def advance_every(seconds: float, items: int, clock: list[float], progress: Progress) -> None:
    with progress:
        for _ in range(items):
            clock[0] += seconds
            progress.advance()


def test_a_line_about_every_20_seconds_says_what_is_done_the_rate_and_the_time_left(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "evlvideo"):
        advance_every(8.0, 8, clock, Progress("captioning", 8))
    assert caplog.messages == [
        "captioning: 3 of 8 clips, 7.5 clips a minute, 40 s left",
        "captioning: 6 of 8 clips, 7.5 clips a minute, 16 s left",
        "captioning: 8 clips, in 1 min 4 s",
    ]


def test_quick_work_logs_nothing(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "evlvideo"):
        advance_every(0.1, 100, clock, Progress("captioning", 100))
    assert caplog.messages == []


def test_what_was_done_before_does_not_count_for_the_rate(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "evlvideo"), Progress("checking", 1010, unit="files", done=1000) as progress:
        clock[0] += 20
        progress.update(1005)
    assert caplog.messages[0] == "checking: 1,005 of 1,010 files, 15 files a minute, 20 s left"


def test_an_error_is_no_end(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, "evlvideo"),
        pytest.raises(ValueError, match="broken"),
        Progress("captioning", 8) as progress,
    ):
        clock[0] += 30
        progress.advance()
        raise ValueError("broken")
    assert len(caplog.messages) == 1


def test_batches_are_counted_as_they_come(clock: list[float]) -> None:
    progress = Progress("captioning", 5)
    with progress:
        counted = [progress.done for _ in progress.track([[1, 2], [3, 4], [5]], count=len)]
    assert counted == [2, 4, 5]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_drawn_on_a_terminal_only(terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal)
    with Progress("captioning", 8, console=console) as progress:
        progress.advance(3)
    assert isinstance(console.file, io.StringIO)
    assert ("captioning" in console.file.getvalue()) == terminal


@pytest.mark.parametrize(
    ("seconds", "spelled"),
    [(0.04, "0.0 s"), (48.4, "48 s"), (59.7, "1 min 0 s"), (200.0, "3 min 20 s"), (7500.0, "2 h 5 min")],
)
def test_durations_have_two_units_at_most(seconds: float, spelled: str) -> None:
    assert spelled_seconds(seconds) == spelled


def test_work_is_told_with_its_outcome_and_its_seconds() -> None:
    said: list[str] = []
    with timed("the clips of mini:train", said.append) as outcome:
        outcome.append("40 clips")
    assert len(said) == 1
    assert said[0].startswith("the clips of mini:train: 40 clips, 0.")


def test_long_work_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ANNOUNCED_SECONDS", 0.0)
    said: list[str] = []
    with timed("the language model", said.append):
        while not said:
            pass
    assert said[0] == "the language model …"


def test_work_that_fails_is_not_told_as_done() -> None:
    said: list[str] = []
    with pytest.raises(ValueError, match="broken"), timed("the language model", said.append):
        raise ValueError("broken")
    assert said == []

"""Run the tests that need a GPU."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from gpu_parts.measure import Notes
from gpu_parts.sizes import Size

ROOT = Path(__file__).parents[3]
MARK = "needs_cuda"
_SIGNS = (f"mark.{MARK}", "@every_device")
"""Text that a file with such tests contains; importing the others would take a minute."""


def run(size: Size, notes: Notes) -> None:
    """Record each test's outcome; without a GPU all are skipped."""
    # Imported here, so that only this part fails on a machine without pytest.
    import pytest

    if torch.cuda.is_available():
        os.environ["EVLVIDEO_REQUIRE_CUDA"] = "1"
    os.chdir(ROOT)
    files = [str(path.relative_to(ROOT)) for path in files_with_tests()]
    status = pytest.main([*files, "-m", MARK, "-q", "-p", "no:cacheprovider"], plugins=[_Outcomes(notes)])
    notes.add("exit_status", int(status))


def files_with_tests() -> Iterator[Path]:
    """List the test files with tests that need a GPU."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if any(sign in text for sign in _SIGNS):
            yield path


class _Outcomes:
    """Records each test when it ends."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def pytest_runtest_logreport(self, report: Any) -> None:
        # A test that is skipped or fails in its set-up is never called.
        if report.when == "call" or report.outcome != "passed":
            found: dict[str, Any] = {"outcome": report.outcome, "seconds": report.duration}
            if report.outcome == "failed":
                found["why"] = str(report.longrepr)[-2000:]
            self._notes.add(report.nodeid, found)

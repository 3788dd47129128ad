"""The benchmark of captioning many files measures what it says."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "benchmarks"), str(ROOT / "scripts")]

import corpus  # noqa: E402


def test_a_large_table_is_planned_resumed_and_finished() -> None:
    found = corpus.in_process(corpus.million, 3000)
    assert (found["rows"], found["parts"]) == (3000, 4)
    assert found["plan_seconds"] > 0 < found["resume_seconds"]


def test_memory_is_that_of_the_driver_and_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "FRAMES", (1, 3, 8, 8))
    found = corpus.in_process(corpus.memory, 100, 2)
    assert found["rows"] == 100
    assert found["driver_mb"] > 0 < found["worker_mb"]


@pytest.mark.slow
def test_every_way_captions_the_clips() -> None:
    found = corpus.in_process(corpus.speed, 6, 1, 1)
    assert found["clips_a_second"].keys() == {"loop", "local", "decode", "caption"}
    assert 0 < found["local_of_allowed"] < 1.5

"""The benchmark of many clips measures what it says."""

import sys
from pathlib import Path

import pytest

from evlvideo.files import read_json

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "benchmarks"), str(ROOT / "scripts")]

import scale  # noqa: E402


@pytest.mark.parametrize("form", scale.WRITERS)
def test_every_form_is_read_and_gone_through(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "BATCH", 16)
    monkeypatch.setattr(scale, "PER_SHARD", 40)
    monkeypatch.setenv("EVLVIDEO_CACHE", str(tmp_path / "cache"))
    scale.make_files(tmp_path, 0, 100)
    found = scale.of_both_starts(form, 100, tmp_path, most_items=10**9)["second_start"]
    assert found["items"] == 112  # whole batches
    assert 0 < found["read_seconds"] < found["first_batch_seconds"]
    assert len(found["worker_growth_mb"]) == 2


def test_the_numbers_of_the_page_hold_the_goal() -> None:
    forms = read_json(ROOT / "docs" / "benchmarks" / "scale.json")["forms"]
    million = {form: found for form, sizes in forms.items() for found in sizes if found["clips"] == 1_000_000}
    assert million.keys() >= {"jsonl", "webvid", "msrvtt"}
    for found in million.values():
        assert found["first_start"]["process_mb"] < 250
        assert found["second_start"]["process_mb"] < 250
        assert max(found["second_start"]["worker_growth_mb"]) < 40

"""The benchmark of scoring measures what it says."""

import sys
from pathlib import Path

import pytest

from evlvideo.files import read_json

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "benchmarks"), str(ROOT / "scripts")]

pytest.importorskip("pycocoevalcap")
import scoring  # noqa: E402


def test_captions_are_of_every_clip_and_alike_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        scoring.write_captions(30, tmp_path / name)
    references = read_json(tmp_path / "one" / "references.json")
    assert {len(texts) for texts in references.values()} == {scoring.REFERENCES}
    assert {entry["image_id"] for entry in read_json(tmp_path / "one" / "two.json")} == references.keys()
    assert (tmp_path / "one" / "one.json").read_bytes() == (tmp_path / "two" / "one.json").read_bytes()


@pytest.mark.parametrize(("part", "written"), [("score", "result_mb"), ("compare", "page_mb")])
def test_a_part_says_what_it_took(part: str, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evlvideo.comparison.rows.gather.MeteorProcess", None)  # put back afterwards
    monkeypatch.setattr("evlvideo.metrics.tokenizers.tokenize.find_java", lambda: None)
    scoring.write_captions(30, tmp_path)
    found = scoring.measured(part, tmp_path)
    assert {"wall_seconds", "cpu_seconds", "programs_cpu_seconds", "peak_mb", written} <= found.keys()


def test_the_numbers_of_the_page_hold_the_goal() -> None:
    found = read_json(ROOT / "docs" / "benchmarks" / "scoring.json")["clips"]["100000"]
    assert found["score"]["cpu_seconds"] + found["score"]["programs_cpu_seconds"] < 120
    assert found["score"]["peak_mb"] < 1500
    assert found["compare"]["page_mb"] < 10

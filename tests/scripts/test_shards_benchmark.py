"""The benchmarks of shards and of kept indexes, in small."""

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path[:0] = [str(SCRIPTS), str(SCRIPTS / "benchmarks")]

import shards  # noqa: E402
import video_index  # noqa: E402
from benchmark_page import shards as page  # noqa: E402


def test_shards_are_measured_also_without_webdataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "installed", lambda: False)
    facts = shards.facts()
    monkeypatch.setattr(shards.subprocess, "run", lambda *arguments, **options: None)
    report = {
        **facts,
        "throughput": shards.throughput(tmp_path / "few", samples=16, rounds=1, workers=(0,)),
        "many": shards.many(tmp_path / "many", shards=70, samples=2),
    }
    assert report["throughput"]["work"]["pictures"]["0"]["evlvideo"]["samples_per_second"] > 0
    assert report["many"]["samples"] == 140
    walks = report["many"]["walks"]
    assert walks["windows"]["opened_per_sample"] == 0.5 < walks["everywhere"]["opened_per_sample"]
    assert "ratio not measured" in " ".join(shards.summary(report))
    assert page.shards(report)[0] == "## Shards"


def test_indexes_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_index, "CLIPS", {"small": ("mpeg4", "avi", 64, 48, 1, {})})
    monkeypatch.setenv("EVLVIDEO_CACHE", str(tmp_path / "cache"))
    found = video_index.measured(video_index.render(tmp_path, "small"), rounds=1)
    assert found["index_bytes"] > 0
    assert len(found["milliseconds"]["kept"]) == 1
    assert page.video_index({"frames": 4, "clips": {"small": found}})[0].startswith("###")

"""The benchmark of rewards measures what it says."""

import sys
from pathlib import Path

import pytest

from evlvideo.files import read_json

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "benchmarks"), str(ROOT / "scripts")]

pytest.importorskip("pycocoevalcap")
import rewards  # noqa: E402

REFERENCES = {f"clip{i}": [f"a man sees {i} dogs", f"someone with {i % 7} cats", "a red ball"] for i in range(70)}


def test_captions_are_those_of_a_step() -> None:
    captions, clips = rewards.sampled(REFERENCES)
    assert len(captions) == len(clips) == 320
    assert len(set(clips)) == 64
    assert all(captions[place] in REFERENCES[clip] for place, clip in enumerate(clips) if place % 5 < 2)


def test_ours_agrees_with_pycocoevalcap() -> None:
    agreement = rewards.measure_agreement(REFERENCES)
    assert agreement["captions"] == 70
    assert agreement["largest_difference"] < 1e-9


def test_calls_that_warm_up_are_not_timed() -> None:
    calls: list[None] = []
    found = rewards.timed(lambda: calls.append(None), 4, warm_up=3)
    assert len(calls) == 7
    assert found["repeats"] == 4
    assert found["wall_ms"]["p5"] <= found["wall_ms"]["median"] <= found["wall_ms"]["p95"]


def test_the_numbers_of_the_page_hold_the_goal() -> None:
    report = read_json(ROOT / "docs" / "benchmarks" / "rewards.json")
    assert report["reward"]["calls"]["cider_d"]["cpu_ms"]["median"] < 10
    assert report["reward"]["times_faster_wall"] > 50
    assert report["agreement"]["largest_difference"] < 1e-9

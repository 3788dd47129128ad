"""The scripts about decoding: the benchmark measures every way, and damaged files are counted."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path[:0] = [str(SCRIPTS), str(SCRIPTS / "benchmarks")]

import decoding  # noqa: E402
import fuzz_decoding  # noqa: E402


def test_every_way_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "RATE", 1)
    monkeypatch.setattr(decoding, "CLIPS", {"small": (64, 48, 60)})
    result = decoding.speed(tmp_path, "small", rounds=2)
    for count in ("4", "8"):
        measured = result["frames"][count]
        assert {"auto", "pyav", "guarded", "pytorchvideo"} <= set(measured["ways"])
        assert all(len(way["seconds"]) == 2 for way in measured["ways"].values())
        assert measured["auto_over_fastest_speed"] > 0
    assert len(decoding.summary({"clips": [result]})) == 4


def test_the_table_has_a_line_for_each_file_and_backend(tmp_path: Path) -> None:
    decoding.render(tmp_path / "good.mp4", 64, 48, 20)
    (tmp_path / "text.mp4").write_text("no video")
    lines = decoding.comparison(tmp_path).splitlines()
    assert "| good.mp4 | auto | 20 h264 | 64×48 | 0 | equal |" in lines
    assert any(line.startswith("| text.mp4 | pyav | it cannot be decoded: Invalid data") for line in lines)


def test_damaged_files_are_decoded_or_refused() -> None:
    command = [sys.executable, str(SCRIPTS / "fuzz_decoding.py"), "--count", "20", "--time-limit", "20"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert sum(report["outcomes"].values()) == report["tried"] == 20


@pytest.mark.parametrize("size", [2, 100, 50_000])
def test_damage_is_the_same_for_the_same_seed(size: int) -> None:
    content = random.Random(1).randbytes(size)
    damages = [[fuzz_decoding.damaged(content, random.Random(seed)) for seed in range(50)] for _ in range(2)]
    assert damages[0] == damages[1]
    assert sum(damage != content for damage in damages[0]) > 25

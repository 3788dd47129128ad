"""Runs of an earlier version open, caption as they did, and resume as they did."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from toy_run import SPLITS

from evlvideo.config.run import RunConfig
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.mini import build
from evlvideo.models.checkpoint import renamed
from evlvideo.results.run_directory import run_config
from evlvideo.training.run import train

KEPT = Path(__file__).parent / "kept_runs"
RUNS = ("in_tower", "merged", "videochat", "scst_lora")
STEPS = 6
pytestmark = pytest.mark.usefixtures("no_java")


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the runs in the working directory, which their paths are relative to."""
    shutil.copytree(KEPT, tmp_path / "kept")
    monkeypatch.chdir(tmp_path / "kept")
    monkeypatch.setattr(build, "SPLITS", SPLITS)


def config_of(name: str, *overrides: str) -> RunConfig:
    """The config of a kept run; the process that decodes may have another working directory."""
    return run_config(Path(name), [f"data.root={Path('toy/data').absolute()}", *overrides])


def captions(run: Path) -> dict[str, str]:
    predictions = json.loads((run / "evaluation" / "mini-test" / "predictions.json").read_text())
    return {prediction["image_id"]: prediction["caption"] for prediction in predictions}


def losses(log: list[dict[str, Any]]) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in log if "loss" in line}


@pytest.mark.parametrize("name", RUNS)
def test_captions_are_those_of_then(name: str) -> None:
    expected = captions(Path(name))
    shutil.rmtree(Path(name) / "evaluation")
    evaluate(Path(name), config=config_of(name), metrics=("cider",))
    assert captions(Path(name)) == expected


@pytest.mark.parametrize("name", RUNS)
def test_resuming_goes_on_as_it_did_then(name: str) -> None:
    config = config_of(name, f"training.max_steps={STEPS}")
    train(config, resume=True, console=Console(quiet=True))
    expected = losses(json.loads((KEPT / "expected" / name / "log.json").read_text()))
    found = losses([json.loads(line) for line in (Path(name) / "log.jsonl").read_text().splitlines()])
    assert expected.keys() == set(range(1, STEPS + 1))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)
    wanted = renamed(load_file(KEPT / "expected" / name / "model.safetensors"))
    weights = load_file(Path(name) / "checkpoints" / f"checkpoint-{STEPS}" / "model.safetensors")
    assert weights.keys() == wanted.keys()
    for weight, value in wanted.items():
        torch.testing.assert_close(weights[weight], value, rtol=1e-3, atol=1e-4)

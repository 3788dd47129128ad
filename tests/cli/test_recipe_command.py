"""`evlvideo train` and `evlvideo estimate` of a recipe, as they hand it on and refuse."""

import sys
from pathlib import Path
from typing import Any

import pytest

from evlvideo.cli.app import main
from evlvideo.config.recipes.recipe import Recipe

pytestmark = pytest.mark.usefixtures("restore_logging")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"output_dir: {tmp_path / 'out'}\nstages:\n  - name: one\n  - name: two\n")
    return path


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `train_recipe` is called with, in its place."""
    calls: list[dict[str, Any]] = []

    def note(recipe: Recipe, *, resume: bool, start: str | None, console: object) -> Path:
        calls.append({"stages": [stage.config for stage in recipe.stages], "resume": resume, "start": start})
        return recipe.stages[-1].directory

    monkeypatch.setattr("evlvideo.experiments.recipe.run.train_recipe", note)
    return calls


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["evlvideo", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_recipe_is_trained_by_the_command_that_trains_a_run(
    recipe: Path, trained: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "train", recipe, "seed=3", "two.seed=4", "--from", "two") == 0
    (call,) = trained
    assert ([config.seed for config in call["stages"]], call["resume"], call["start"]) == ([3, 4], False, "two")
    assert "done. Next: evlvideo evaluate" in capsys.readouterr().out
    assert run(monkeypatch, "train", recipe, "--resume") == 0
    assert trained[1]["resume"] and trained[1]["start"] is None


def test_from_and_resume_are_two_ways(
    recipe: Path, trained: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "train", recipe, "--from", "two", "--resume") == 2
    assert "give one of them" in capsys.readouterr().err and not trained


def test_a_run_has_no_stage_to_start_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.yaml").write_text("seed: 3\n")
    assert run(monkeypatch, "train", tmp_path / "run.yaml", "--from", "two") == 2
    assert "has no stages, so there is none to start from" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "estimate"])
def test_a_recipe_with_problems_is_told_in_a_sentence_each(
    recipe: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe.write_text(recipe.read_text() + "  - name: two\n")
    assert run(monkeypatch, command, recipe) == 2
    told = capsys.readouterr().err
    assert "two is the name of 2 stages; give each its own" in " ".join(told.split()) and "Traceback" not in told

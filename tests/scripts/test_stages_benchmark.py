"""One stage against two: budgets are equal, and the page says what the runs gave."""

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "benchmarks"), str(ROOT / "scripts")]

import stages as benchmark  # noqa: E402
from benchmark_page.stages import stages  # noqa: E402

from evlvideo.files import read_json  # noqa: E402


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def arms(directory: Path, sizes: benchmark.Sizes = benchmark.WHOLE) -> dict[tuple[str, str], benchmark.Arm]:
    return {(arm.system, arm.budget): arm for arm in benchmark.arms_of(1, directory, sizes)}


def test_budgets_are_equal(tmp_path: Path) -> None:
    found = arms(tmp_path)
    systems = {benchmark.ONE_STAGE, benchmark.TWO_STAGES, benchmark.TOME}
    examples = {sum(run.training.max_steps for run in found[system, benchmark.EXAMPLES].runs) for system in systems}
    assert examples == {benchmark.WHOLE.steps}
    spent = {
        system: sum(
            run.training.max_steps * benchmark.trained_multiply_adds(run)
            for run in found[system, benchmark.MULTIPLY_ADDS].runs
        )
        for system in systems
    }
    assert max(spent.values()) / min(spent.values()) < 1.02


def test_runs_differ_in_model_stage_steps_and_learning_rate_alone(tmp_path: Path) -> None:
    runs = [run for arm in arms(tmp_path).values() for run in arm.runs]
    assert len({repr(run.data) for run in runs}) == 1
    assert {run.training.batch_size for run in runs} == {benchmark.WHOLE.batch_size}
    assert {run.seed for run in runs} == {1}
    first, second = arms(tmp_path)[benchmark.TWO_STAGES, benchmark.EXAMPLES].runs
    assert (first.stage, second.stage, second.init) == ("representation", "caption", first.output_dir)


def test_the_page_says_what_the_runs_gave() -> None:
    def arm(system: str, budget: str, seed: int, cider: float, first: dict[str, float] | None) -> dict[str, Any]:
        return {
            "system": system,
            "budget": budget,
            "seed": seed,
            "steps": [2, 2] if first else [4],
            "multiply_adds": 2e12,
            "training_seconds": 3.0,
            "scores": {"cider": cider},
            "other_pictures_cider": 0.1,
            "captions": 300,
            "distinct_captions": 12,
            "validation_loss": 1.5,
            "answers": {"accuracy": {"value": 0.25}},
            "first_stage": first,
        }

    names = ("contrast_loss", "matching_loss", "generation_loss", "image_to_text_r1", "text_to_image_r1")
    given = [
        arm(system, budget, seed, cider + seed / 10, dict.fromkeys(names, 0.5) if cider else None)
        for system, cider in (("two", 1.0), ("one", 0.0))
        for budget in ("examples", "multiply_adds")
        for seed in (1, 2)
    ]
    report = {"machine": {"threads": 2}, "conditions": "", "seeds": [1, 2], "sizes": {"batch_size": 32}, "arms": given}
    lines = stages(report)
    assert any(
        "| two | 2 + 2 | 2.00 | 115.0 (110.0, 120.0) | 10.0 (10.0, 10.0) | 12 (12, 12) |" in row for row in lines
    )
    assert any("as many examples | 0.50 (0.50, 0.50)" in row for row in lines)


@pytest.mark.slow
def test_the_program_runs_on_a_few_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "stages.json"
    given = ["--small", "--seeds", "1", "--directory", str(tmp_path / "runs"), "--out", str(out), "--at-a-time", "1"]
    monkeypatch.setattr(sys, "argv", ["stages.py", *given])
    benchmark.main()
    found = read_json(out)["arms"]
    assert len(found) == 6
    assert all(arm["captions"] > 0 and arm["answers"] for arm in found)

"""The studies of staged alignment: arms have equal budgets, and the page says what they gave."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "scripts" / "benchmarks"), str(ROOT / "scripts")]

import alignment as benchmark  # noqa: E402
from alignment_parts import studies  # noqa: E402
from alignment_parts.arms import SMALL, WHOLE, Arm, multiply_adds  # noqa: E402
from benchmark_page import alignment as page  # noqa: E402

from evlvideo.estimate.stages import estimate_stages  # noqa: E402


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def arms(study: str, directory: Path) -> list[Arm]:
    return list(benchmark.STUDIES[study](1, directory, WHOLE))


def steps(arm: Arm) -> list[int]:
    return [stage.config.training.max_steps for stage in arm.recipe.stages]


def test_masks_differ_in_the_mask_alone(tmp_path: Path) -> None:
    found = arms("masks", tmp_path)
    assert [arm.last.config.model.visual_mask for arm in found] == [arm.name for arm in found]
    assert len({repr((arm.last.config.training, arm.last.config.data, steps(arm))) for arm in found}) == 1
    # Else the mean of the loss would have one more target, and an easy one, under two of the masks.
    assert {arm.last.config.text.bos_in_loss for arm in found} == {False}


def test_lengths_of_the_alignment_share_one_budget(tmp_path: Path) -> None:
    found = arms("length", tmp_path)
    assert {sum(steps(arm)) for arm in found} == {WHOLE.steps}
    assert sorted(stage.config.training.max_steps for arm in found for stage in arm.recipe.stages) == [
        *[60, 60, 120, 120, 180, 180],
        *[240, 240],
    ]
    # The first is the first of the masks.
    assert found[0].recipe == arms("masks", tmp_path)[0].recipe


def test_one_stage_has_the_multiply_adds_of_four(tmp_path: Path) -> None:
    four, *ones = arms("stages", tmp_path)
    assert [len(four.recipe.stages), *(len(one.recipe.stages) for one in ones)] == [4, 1, 1]
    spent = [multiply_adds(arm.recipe) for arm in (four, *ones)]
    assert max(spent) / min(spent) < 1.02
    assert spent[0] == sum(stage.whole or 0 for stage in estimate_stages(four.recipe))


def test_adaptations_differ_in_their_start_and_in_what_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Arm, "train", lambda arm: None)
    found = arms("questions", tmp_path)
    stages = ["no stage", *(stage.name for stage in studies.four_stages(1, tmp_path, WHOLE).stages)]
    assert [arm.name for arm in found] == [f"{stage} ({state})" for stage in stages for state in ("frozen", "trained")]
    inits = [arm.last.config.init for arm in found]
    assert inits[:2] == ["towers"] * 2
    assert [Path(init).name for init in inits[2::2]] == ["01-align", "02-align-more", "03-unfreeze", "04-finetune"]
    assert inits[::2] == inits[1::2]
    assert {arm.last.config.data.kind for arm in found} == {"questions"}
    assert [arm.last.config.training.learning_rates.language_model for arm in found] == [0.0, 2e-4] * 5
    assert multiply_adds(found[0].recipe) < multiply_adds(found[1].recipe)


def test_a_folder_replaces_the_packaged_language_model(tmp_path: Path) -> None:
    found = list(benchmark.STUDIES["masks"](1, tmp_path, replace(WHOLE, language_model="somewhere/smollm2")))
    architecture = yaml.safe_load(Path(str(found[0].recipe.stages[0].config.architecture)).read_text())
    assert architecture["language_model"] == "somewhere/smollm2"
    assert "text_config" not in architecture
    assert architecture["vision_weights"] == "package:mini/vision_tower/model.safetensors"


def arm(name: str, seed: int, cider: float) -> dict[str, Any]:
    return {
        "arm": name,
        "seed": seed,
        "stages": [{"name": "align", "steps": 2}],
        "multiply_adds": 2e12,
        "training_seconds": 3.0,
        "cider": cider,
        "curve": [{"step": 2, "loss": 1.5, "cider": 0.1}],
    }


def test_the_page_says_what_the_runs_gave() -> None:
    given = [
        *(arm("causal", seed, cider) for seed, cider in ((1, 0.5), (2, 0.6), (3, 0.7))),
        *(arm("full", seed, cider) for seed, cider in ((1, 0.7), (2, 0.81), (3, 0.89))),
        *(arm("other", seed, cider) for seed, cider in ((1, 0.6), (2, 0.5), (3, 0.7))),
    ]
    sizes = {"batch_size": 16, "test_split": "test", "language_model": None}
    lines = page.alignment(
        {"study": "masks", "seeds": [1, 2, 3], "conditions": "", "machine": {"cpus": 2}, "sizes": sizes, "arms": given}
    )
    # By Student's t with two degrees of freedom: 4.303 × 1 / √3 of standard deviations of 10 and 1.
    assert (
        "| causal | align 2 | 2.00 | 60.0 ± 24.8 (50.0, 60.0, 70.0) |  | 1.50 ± 0.00 (1.50, 1.50, 1.50) | 3 |" in lines
    )
    assert any("| +20.0 ± 2.5 (+20.0, +21.0, +19.0) |" in line for line in lines)
    told = "By these intervals over 3 seeds, full is above causal; other is not told apart from causal in CIDEr."
    assert lines[-1].startswith(f"{told} Where rows are not told apart, ")


def test_the_page_names_another_language_model_and_draws_nothing_from_one_seed() -> None:
    sizes = {"batch_size": 4, "test_split": "test", "language_model": "smollm2"}
    given = [arm("causal", 1, 0.5), arm("full", 1, 0.7)]
    lines = page.alignment(
        {"study": "masks", "seeds": [1], "conditions": "", "machine": {"cpus": 2}, "sizes": sizes, "arms": given}
    )
    assert lines[0] == "## Alignment: who sees whom, with smollm2"
    assert "but with the language model smollm2, batches of 4, seeds 1;" in lines[2]
    assert lines[-1] == "One seed says nothing about how far rows lie apart by chance."


def test_the_page_compares_what_is_trained_from_each_stage() -> None:
    values = {"align (frozen)": (0.2, 0.3, 0.1), "align (trained)": (0.4, 0.51, 0.29)}
    given = [
        {key: value for key, value in arm(name, seed, 0.0).items() if key != "cider"} | {"accuracy": found}
        for name, of_seeds in values.items()
        for seed, found in enumerate(of_seeds)
    ]
    sizes = {"batch_size": 16, "test_split": "test", "language_model": None}
    facts = {
        "study": "questions",
        "seeds": [0, 1, 2],
        "conditions": "",
        "machine": {"cpus": 2},
        "sizes": sizes,
        "blind": 0.316,
    }
    lines = page.alignment({**facts, "arms": given})
    assert any("VQA accuracy in percent on the test split" in line for line in lines)
    assert lines[-1] == (
        "What training the language model adds to freezing it: align +20.0 ± 2.5 (+20.0, +21.0, +19.0). Without a look "
        "at the picture, the most frequent answer of each question's type gets 31.6."
    )


@pytest.mark.slow
@pytest.mark.parametrize("study", benchmark.STUDIES)
def test_a_study_runs_on_a_few_pictures(study: str, tmp_path: Path) -> None:
    report = {**benchmark.measure(study, [1], tmp_path, SMALL), "conditions": "", "machine": {"cpus": 2}}
    assert all(found["curve"] for found in report["arms"])
    assert page.alignment(report)[0].startswith("## Alignment")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("training.json")}
    again = benchmark.measure(study, [1], tmp_path, SMALL)
    assert again["arms"] == report["arms"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("training.json")} == before

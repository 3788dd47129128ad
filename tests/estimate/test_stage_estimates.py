"""Estimates of recipes, by stage."""

from pathlib import Path

import pytest
from rich.console import Console
from toy_run import Toy

from evlvideo.config.recipes.recipe import Recipe, load_recipe
from evlvideo.errors import UserError
from evlvideo.estimate.run_costs import estimate_run
from evlvideo.estimate.stages import StageEstimate, estimate_stages, stages_table

TEXT = """
output_dir: runs/estimated
training: {max_steps: 10, batch_size: 4, gradient_accumulation_steps: 2, precision: bf16}
data: {dataset: mini, root: nowhere, num_frames: 2}
stages:
  - name: align
  - name: language
    training: {learning_rates: {language_model: 1e-5}}
  - name: again
    epochs: 2
  - name: reward
    stage: scst
"""


def recipe_of(tmp_path: Path, text: str = TEXT) -> Recipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return load_recipe(path)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[StageEstimate]:
    return estimate_stages(recipe_of(tmp_path_factory.mktemp("estimated")))


def test_the_first_stage_costs_what_its_run_does(stages: list[StageEstimate], tmp_path: Path) -> None:
    assert stages[0].costs == estimate_run(recipe_of(tmp_path).stages[0].config)


def test_a_stage_takes_memory_for_what_it_trains_and_for_what_was_trained(stages: list[StageEstimate]) -> None:
    align, language, again, _ = (found.costs.memory for found in stages)
    weights = stages[0].costs.parameters.language_model
    assert language.weights == again.weights == align.weights + 2 * weights
    assert language.optimizer == align.optimizer + 8 * weights and again.optimizer == align.optimizer


def test_steps_and_epochs_of_a_stage(stages: list[StageEstimate]) -> None:
    align, language, again, reward = stages
    assert align.step == 2 * align.costs.training_batch.total and align.whole == 10 * align.step
    assert language.step > align.step and again.whole is None
    assert (align.length, again.length) == ("10 steps", "2 epochs")
    assert reward.costs.sampling_clip is not None and reward.step > 2 * reward.costs.training_batch.total


def test_epochs_are_counted_in_steps_where_the_clips_are(toy: Toy, tmp_path: Path) -> None:
    again = estimate_stages(recipe_of(tmp_path, TEXT.replace("root: nowhere", f"root: {toy.data}")))[2]
    captions = sum(len(clip.captions) for clip in toy.clips("train"))
    steps = 2 * -(-captions // 8)
    assert (again.steps, again.length) == (steps, f"2 epochs, {steps} steps")
    assert again.whole == steps * again.step


def test_the_table_has_a_row_for_each_stage(stages: list[StageEstimate]) -> None:
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(stages_table(stages))
    lines = [line.strip() for line in captured.get().splitlines()]
    rows = {line.split()[0]: line for line in lines if "iB" in line}
    assert "10 steps" in rows["align"] and "2 epochs" in rows["again"]
    assert "align trains connector, projections." in lines
    assert "language trains connector, language model, projections." in lines


def test_a_stage_that_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^again: A clip has "):
        estimate_stages(
            recipe_of(
                tmp_path,
                TEXT.replace("epochs: 2", "epochs: 2\n    data: {num_frames: 99}\n    model: {fusion: concat}"),
            )
        )

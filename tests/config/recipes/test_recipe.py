"""Recipes as YAML: what a stage takes from the top level, and what is wrong with one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from evlvideo.config.recipes.recipe import Recipe, is_recipe, load_recipe
from evlvideo.errors import UserError

Write = Callable[[str], Path]
TWO = """
output_dir: runs/two
init: towers
architecture: a.yaml
fit_clips: 3
warmup_share: 0.1
data:
  dataset: mini
  num_frames: 2
training:
  learning_rate: 1e-3
  min_learning_rate: 0.0
  max_steps: 10
  learning_rates: {projections: 2e-3}
stages:
  - name: align
    data:
      sources: [{dataset: mini}, {dataset: jsonl, root: own, ratio: 2}]
  - name: tune
    training:
      max_steps: 20
      learning_rates: {language_model: 1e-4}
    text: {prompt: "a video of"}
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_recipe(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return path

    return write_recipe


def load(write: Write, text: str = TWO, *overrides: str) -> Recipe:
    return load_recipe(write(text), list(overrides))


def problem(write: Write, text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        load(write, text, *overrides)
    return str(error.value)


def test_a_config_with_stages_is_a_recipe(write: Write) -> None:
    assert is_recipe(write(TWO)) and not is_recipe(write("seed: 1\n"))


def test_a_stage_has_its_own_directory_and_begins_where_the_one_before_ended(write: Write) -> None:
    recipe = load(write)
    assert [str(stage.directory) for stage in recipe.stages] == ["runs/two/01-align", "runs/two/02-tune"]
    assert [stage.config.init for stage in recipe.stages] == ["towers", "runs/two/01-align"]
    assert recipe.directory == Path("runs/two")


def test_what_a_stage_does_not_say_it_takes_from_the_top_level(write: Write) -> None:
    align, tune = (stage.config for stage in load(write).stages)
    assert align.data.num_frames == tune.data.num_frames == 2
    assert (align.training.max_steps, tune.training.max_steps) == (10, 20)
    assert [source.ratio for source in align.data.sources] == [1.0, 2.0] and tune.data.sources == []
    rates = align.training.learning_rates, tune.training.learning_rates
    assert [found.projections for found in rates] == [2e-3, 2e-3]
    assert [found.language_model for found in rates] == [0.0, 1e-4]
    assert (align.text.prompt, tune.text.prompt) == (None, "a video of")


def test_a_new_model_is_made_by_the_first_stage_alone(write: Write) -> None:
    align, tune = (stage.config for stage in load(write).stages)
    assert (align.architecture, align.fit_clips) == ("a.yaml", 3)
    assert (tune.architecture, tune.fit_clips) == (None, None)


def test_a_warm_up_is_a_share_of_a_stages_steps(write: Write) -> None:
    assert [stage.config.training.warmup_steps for stage in load(write).stages] == [1, 2]
    own = load(write, TWO, "tune.training.warmup_steps=7")
    assert own.stages[1].config.training.warmup_steps == 7


def test_epochs_replace_the_steps_of_the_top_level_and_not_those_of_the_stage(write: Write) -> None:
    align, tune = load(write, TWO, "epochs=2").stages
    assert (align.epochs, tune.epochs) == (2, None)
    config = align.of_steps(50)
    assert (config.training.max_steps, config.training.warmup_steps) == (50, 5)


def test_overrides_are_of_all_stages_or_of_one(write: Write) -> None:
    recipe = load(write, TWO, "training.batch_size=3", "tune.training.batch_size=5", "training.max_steps=7")
    assert [stage.config.training.batch_size for stage in recipe.stages] == [3, 5]
    assert [stage.config.training.max_steps for stage in recipe.stages] == [7, 20]
    assert load(write, TWO, "output_dir=elsewhere").directory == Path("elsewhere")
    assert load(write, TWO, "tune.text.prompt=007").stages[1].config.text.prompt == "007"


def test_a_file_may_refer_to_what_an_override_sets(write: Write) -> None:
    text = TWO.replace("num_frames: 2", "num_frames: 2\n  root: ???\n  video_root: ${data.root}/videos")
    config = load(write, text, "data.root=own").stages[1].config
    assert config.data.video_root == "own/videos" and is_recipe(write(text), ["data.root=own"])


def test_a_section_that_says_nothing_changes_nothing(write: Write) -> None:
    text = TWO + "  - name: last\n    training:\n    data:\n"
    assert load(write, text).stages[2].config.training == load(write, text).stages[2].of_steps(10).training


STAGES = "output_dir: runs/two\nstages:\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stages:\n", "stages is None; it must be a list of sections"),
        ("stages: []\n", "stages is []; it must be a list of sections"),
        ("stages: {name: a}\n", "stages is {'name': 'a'}; it must be a list"),
        ("stages: [3]\n", "stages[0] is 3; it must be a section with a name"),
        (STAGES + "  - seed: 1\n", "stages[0] has no name; give it one"),
        (STAGES + "  - name: a\n  - name: a\n", "a is the name of 2 stages; give each its own"),
        (STAGES + "  - name: ../b\n", "'../b' is no name for a stage"),
        (STAGES + "  - name: data\n", "data is the name of a stage and of a key of a run"),
        (STAGES + "  - name: a\n    init: mini\n", "stages[0] (a) sets init, which the recipe sets: each stage begins"),
        (STAGES + "  - name: a\n    output_dir: b\n", "stages[0] (a) sets output_dir, which the recipe sets"),
        (STAGES + "  - name: a\n    trainin: {}\n", "stages[0] (a): unknown key trainin; did you mean training?"),
        (STAGES + "  - name: a\n    epochs: 0\n", "stages[0] (a): epochs is 0; it must be a number above 0"),
        (STAGES + "  - name: a\n    epochs: many\n", "stages[0] (a): epochs is 'many'; it must be a number above 0"),
        (STAGES + "  - name: a\n    warmup_share: 1\n", "stages[0] (a): warmup_share is 1; it must be at least 0 and"),
        (
            STAGES + "  - name: a\n    epochs: 2\n    training: {max_steps: 3}\n",
            "stages[0] (a): epochs is 2 and training.max_steps is 3; give one of them",
        ),
        (
            STAGES + "  - name: a\n    training: {learning_rates: {connector: 0, projections: 0, contextualizers: 0, "
            "lora: 0}}\n",
            "stages[0] (a): training.learning_rates are all 0, so that nothing is trained",
        ),
        (
            STAGES + "  - name: a\n    training: {learning_rates: {tower: 1}}\n",
            "unknown key training.learning_rates.tower",
        ),
        ("trainin: 3\n" + STAGES + "  - name: a\n", "stages[0] (a): unknown key trainin"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said(write: Write, text: str, said: str) -> None:
    found = problem(write, text)
    assert said in found and "recipe.yaml" in found


def test_all_problems_of_all_stages_are_told_together(write: Write) -> None:
    found = problem(write, STAGES + "  - name: a\n    seed: x\n  - name: b\n    training: {max_steps: 0}\n")
    assert "has 2 problems" in found and "(a): seed is 'x'" in found and "(b): training.max_steps is 0" in found


def test_a_stage_that_is_not_there_is_answered_with_those_that_are(write: Write) -> None:
    with pytest.raises(UserError, match=r"--from 'tun' is no stage of the recipe; allowed: align, tune\."):
        load(write).index("tun")

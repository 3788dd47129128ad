"""Recipes trained on the toy: stages in turn, stopped and resumed, started again, and refused."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file
from toy_run import Toy, environment, program, start

from evlvideo.assembly import stages
from evlvideo.assembly.clips import read_training_clips
from evlvideo.config.data import DataConfig
from evlvideo.config.recipes.recipe import Recipe, load_recipe
from evlvideo.errors import UserError
from evlvideo.experiments.recipe.run import train_recipe
from evlvideo.metrics import java
from evlvideo.models.trainable import trained_part
from evlvideo.training.health import collapse

STAGES: list[dict[str, Any]] = [
    {"name": "align"},
    {"name": "language", "training": {"learning_rates": {"language_model": 1e-3}}},
    {"name": "tower", "training": {"learning_rates": {"vision_tower": 1e-3}, "vision_blocks": 1}},
    {"name": "reward", "stage": "scst"},
]

NO_JAVA = """
from evlvideo.metrics import java
java._java_on_path = java._java_of_package = lambda: None
"""


def write_recipe(toy: Toy, path: Path, stages: list[dict[str, Any]] = STAGES, **training: Any) -> Recipe:
    """A recipe of short stages; the file is beside the directory that it trains in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = {"max_steps": 2, "batch_size": 4, "learning_rate": 1e-2, "min_learning_rate": 1e-3, "warmup_steps": 0}
    content = {
        "output_dir": str(path.with_suffix("")),
        "init": str(toy.checkpoint),
        "data": {"dataset": "mini", "root": str(toy.data), "num_frames": 2, "horizontal_flip": 0.0, "num_workers": 0},
        "training": {**steps, "warmup_learning_rate": 1e-4, "eval_steps": 1, "log_steps": 1, **training},
        "generation": {"num_beams": 2, "max_new_tokens": 10, "min_new_tokens": 1},
        "scst": {"num_samples": 3, "baseline": "loo", "max_new_tokens": 10},
        "stages": stages,
    }
    path.write_text(yaml.safe_dump(content))
    return load_recipe(path)


def quietly(recipe: Recipe, **options: Any) -> Path:
    return train_recipe(recipe, console=Console(quiet=True), **options)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def same(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module", autouse=True)
def no_java_in_this_module() -> Iterator[None]:
    """A machine without Java, also for what is trained once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(java, "_java_on_path", lambda: None)
        patch.setattr(java, "_java_of_package", lambda: None)
        yield


@pytest.fixture(scope="module")
def trained(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """Four stages, trained. They are not to be changed."""
    recipe = write_recipe(toy, tmp_path_factory.mktemp("recipe") / "whole.yaml")
    quietly(recipe)
    return recipe


@pytest.fixture
def copied(toy: Toy, trained: Recipe, tmp_path: Path) -> Recipe:
    """A copy in another place."""
    recipe = write_recipe(toy, tmp_path / "copy.yaml")
    shutil.copytree(trained.directory, recipe.directory)
    return recipe


def unfinish(stage: Path, step: int | None) -> None:
    """Leave of a stage what a kill after the checkpoint of a step leaves; None leaves nothing but the directory."""
    for name in ("model.safetensors", "training.json", "evaluation"):
        path = stage / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for path in (stage / "checkpoints").iterdir():
        if step is None or int(path.name.rpartition("-")[2]) > step:
            shutil.rmtree(path)


def test_each_stage_is_a_run_that_goes_on_from_the_one_before(trained: Recipe) -> None:
    for stage in trained.stages:
        assert {"config.yaml", "log.jsonl", "training.json", "model.safetensors", "checkpoints"} <= {
            path.name for path in stage.directory.iterdir()
        }
        assert (stage.directory / "evaluation" / "mini-validate" / "result.json").is_file()
    parts = [{trained_part(name) for name in weights(stage.directory)} for stage in trained.stages]
    new = {"connector", "projections"}
    assert parts == [new, new | {"language_model"}, *[new | {"language_model", "vision_tower"}] * 2]
    third, last = (weights(stage.directory) for stage in trained.stages[2:])
    unchanged = {name for name in last if torch.equal(third[name], last[name])}
    assert {trained_part(name) for name in unchanged} == {"language_model", "vision_tower"}


def test_a_finished_recipe_is_left_as_it_is(copied: Recipe) -> None:
    before = {path: path.stat().st_mtime_ns for path in copied.directory.rglob("model.safetensors")}
    assert quietly(copied, resume=True) == copied.stages[-1].directory
    assert {path: path.stat().st_mtime_ns for path in copied.directory.rglob("model.safetensors")} == before


@pytest.mark.parametrize(("index", "step"), [(0, 1), (1, None), (2, 1), (3, 1)])
def test_a_recipe_killed_in_a_stage_ends_as_one_that_was_not(
    trained: Recipe, copied: Recipe, index: int, step: int | None
) -> None:
    for stage in copied.stages[index + 1 :]:
        shutil.rmtree(stage.directory)
    unfinish(copied.stages[index].directory, step)
    quietly(copied, resume=True)
    for stage, other in zip(trained.stages, copied.stages, strict=True):
        assert same(stage.directory, other.directory), stage.name


@pytest.mark.slow
@pytest.mark.parametrize("signals", [(SIGTERM, SIGKILL, SIGTERM, SIGKILL), (SIGKILL, SIGTERM, SIGKILL, SIGTERM)])
def test_a_recipe_that_signals_end_in_each_stage_ends_as_one_that_was_not(
    toy: Toy, tmp_path: Path, signals: tuple[Signals, ...]
) -> None:
    whole, recipe = (write_recipe(toy, tmp_path / f"{name}.yaml", max_steps=6, eval_steps=2) for name in "ab")
    quietly(whole)
    options: tuple[str, ...] = ()
    for stage, number in zip(recipe.stages, signals, strict=True):
        process = start("train", str(tmp_path / "b.yaml"), *options, setup=NO_JAVA)
        while not (stage.directory / "checkpoints" / "checkpoint-2").exists():
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate()
        if number == SIGTERM:
            assert f"The recipe was stopped at stage {stage.name}" in said and "with --resume to go on" in said
        assert not (stage.directory / "training.json").exists()
        options = ("--resume",)
    quietly(recipe, resume=True)
    for stage, other in zip(whole.stages, recipe.stages, strict=True):
        assert same(stage.directory, other.directory), stage.name


def test_a_recipe_starts_again_from_a_stage(trained: Recipe, copied: Recipe, caplog: pytest.LogCaptureFixture) -> None:
    before = (copied.stages[1].directory / "training.json").stat().st_mtime_ns
    with caplog.at_level("INFO", "evlvideo"):
        quietly(copied, start="tower")
    assert (
        f"Starting again from tower: {copied.stages[2].directory}, {copied.stages[3].directory} replaced" in caplog.text
    )
    assert (copied.stages[1].directory / "training.json").stat().st_mtime_ns == before
    assert same(trained.stages[3].directory, copied.stages[3].directory)


def test_nothing_is_replaced_unless_it_is_asked_for(copied: Recipe) -> None:
    with pytest.raises(
        UserError, match=r"already holds the stages of a recipe \(align, .*\)\. Add --resume to go on, --f"
    ):
        quietly(copied)


def test_a_recipe_that_changed_is_refused_and_what_changed_is_named(toy: Toy, copied: Recipe) -> None:
    changed = write_recipe(toy, copied.directory.with_suffix(".yaml"), weight_decay=0.1)
    with pytest.raises(
        UserError, match=r"has changed since .*: align has training\.weight_decay=0\.1 \(it was 0\.05\)"
    ):
        quietly(changed, resume=True)
    fewer = write_recipe(toy, copied.directory.with_suffix(".yaml"), STAGES[:3])
    with pytest.raises(
        UserError, match=r"its stages are align, language, tower \(they were align, language, tower, re"
    ):
        quietly(fewer, resume=True)


def test_what_changed_from_the_stage_on_where_it_starts_again_is_taken(toy: Toy, copied: Recipe) -> None:
    stages = [*STAGES[:3], {"name": "last", "training": {"weight_decay": 0.0}}]
    changed = write_recipe(toy, copied.directory.with_suffix(".yaml"), stages)
    old = copied.stages[3].directory
    with pytest.raises(UserError, match="has changed since"):
        quietly(changed, resume=True)
    assert old.is_dir()
    quietly(changed, start="last")
    assert not old.exists() and (changed.directory / "04-last" / "training.json").is_file()
    record = json.loads((changed.directory / "recipe.json").read_text())
    assert list(record) == ["align", "language", "tower", "last"]


def test_places_and_what_leaves_training_as_it_is_may_change(toy: Toy, copied: Recipe) -> None:
    changed = write_recipe(toy, copied.directory.with_suffix(".yaml"), keep_checkpoints=1, log_steps=2)
    quietly(changed, resume=True)


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (
            [*STAGES[:1], {"name": "b", "training": {"learning_rates": {"lora": 1e-3}}}],
            "b: training.learning_rates.lora is 0.001, but the model has connector, language_model, projections, vis",
        ),
        (
            [{"name": "a", "training": {"learning_rates": {"connector": 0, "projections": 0}}}],
            "a: it trains nothing; give one of",
        ),
        (
            [*STAGES[:1], {"name": "b", "training": {"learning_rates": {"vision_tower": 1e-3}, "vision_blocks": 9}}],
            "b: training.vision_blocks is 9; the vision tower has 2 blocks",
        ),
        (
            [*STAGES[:1], {"name": "b", "data": {"root": "nowhere"}}],
            "Nothing was trained; stage b: ",
        ),
    ],
)
def test_what_a_later_stage_lacks_is_said_before_the_first_one_trains(
    toy: Toy, tmp_path: Path, stages: list[dict[str, Any]], said: str
) -> None:
    recipe = write_recipe(toy, tmp_path / "wrong.yaml", stages)
    with pytest.raises(UserError) as error:
        quietly(recipe)
    assert said in str(error.value)
    assert not recipe.directory.exists()


def test_clips_that_stages_share_are_read_once_before_the_first_one_trains(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(toy, tmp_path / "shared.yaml", [*STAGES, {"name": "b", "data": {"root": "nowhere"}}])
    read: list[str | None] = []

    def note(data: DataConfig) -> Any:
        read.append(data.root)
        return read_training_clips(data)

    monkeypatch.setattr(stages, "read_training_clips", note)
    with pytest.raises(UserError, match="Nothing was trained; stage b: "):
        quietly(recipe)
    assert read == [str(toy.data), "nowhere"]


@pytest.mark.parametrize("options", [{"resume": True}, {"start": "align"}])
def test_there_must_be_something_to_go_on_from(toy: Toy, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="holds no stages of a recipe to go on from; train without --"):
        quietly(write_recipe(toy, tmp_path / "new.yaml"), **options)


def test_a_stage_before_the_one_to_start_from_must_be_finished(copied: Recipe) -> None:
    unfinish(copied.stages[1].directory, 1)
    with pytest.raises(UserError, match="language is not finished"):
        quietly(copied, start="reward")


def test_a_recipe_does_not_go_on_from_a_stage_that_collapsed(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "collapsed.yaml"
    stages = [STAGES[0], STAGES[3]]
    recipe = write_recipe(toy, path, stages, stop_on_collapse=True)
    with monkeypatch.context() as patch:
        patch.setattr(collapse, "_FEWEST_DISTINCT", 2.0)  # no captions are as different
        with pytest.raises(UserError, match=r"01-align has collapsed .* ended it at step 1 of 2"):
            quietly(recipe)
        with pytest.raises(UserError, match=r"01-align has collapsed .* go on in spite of it with --resume"):
            quietly(recipe, resume=True)
        with pytest.raises(UserError, match="align is not finished"):
            quietly(recipe, start="reward")
        assert not recipe.stages[1].directory.exists()
        quietly(write_recipe(toy, path, stages), resume=True)
    summary = json.loads((recipe.stages[0].directory / "training.json").read_text())
    assert (summary["steps"], summary["ended_by"]) == (2, "training.max_steps")
    assert (recipe.stages[1].directory / "training.json").is_file()


def test_a_run_that_is_no_recipe_is_not_overwritten(toy: Toy, tmp_path: Path) -> None:
    recipe = write_recipe(toy, tmp_path / "run.yaml")
    toy.finished_run(recipe.directory)
    with pytest.raises(UserError, match=r"config\.yaml is there already and is of no recipe"):
        quietly(recipe)


def test_a_stage_without_its_recipe_is_not_taken_for_trained(copied: Recipe) -> None:
    (copied.directory / "recipe.json").unlink()
    with pytest.raises(UserError, match="01-align is there already and is of no recipe"):
        quietly(copied)


def test_a_recipe_gives_the_same_weights_on_two_processes_and_with_accumulation(toy: Toy, tmp_path: Path) -> None:
    model = {"connector_dropout": 0.0}
    stages = [{"model": model, **stage} for stage in STAGES[:2]]
    shares = {"alone": (4, 1), "accumulated": (2, 2), "together": (2, 1)}
    recipes = {
        name: write_recipe(
            toy, tmp_path / f"{name}.yaml", stages, batch_size=size, gradient_accumulation_steps=times, eval_steps=2
        )
        for name, (size, times) in shares.items()
    }
    quietly(recipes["alone"])
    quietly(recipes["accumulated"])
    train_on_two_processes(tmp_path / "together.yaml")
    before = weights(toy.checkpoint)
    for place, stage in enumerate(recipes["alone"].stages):
        one = weights(stage.directory)
        assert max(float((one[name] - before[name]).abs().max()) for name in before) > 1e-3
        for other in ("accumulated", "together"):
            found = weights(recipes[other].stages[place].directory)
            assert found.keys() == one.keys()
            for name in one:
                # Keys' biases have no gradient but rounding, which Adam makes into steps.
                if not name.endswith(("key.bias", "k_proj.bias")):
                    # A hundredth of a step.
                    torch.testing.assert_close(found[name], one[name], atol=1e-4, rtol=1e-4, msg=f"{other} {name}")


def train_on_two_processes(recipe: Path) -> None:
    file = recipe.with_name("program.py")
    file.write_text(program(setup=NO_JAVA)[-1])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launcher, str(file), "train", str(recipe)],
        env=environment(ACCELERATE_USE_CPU="true"),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]


def test_epochs_are_counted_in_captions_and_steps(toy: Toy, tmp_path: Path) -> None:
    captions = sum(len(clip.captions) for clip in toy.clips("train"))
    recipe = write_recipe(toy, tmp_path / "epochs.yaml", [{"name": "half", "epochs": 0.5}], eval_steps=100)
    quietly(recipe)
    summary = json.loads((recipe.stages[0].directory / "training.json").read_text())
    assert summary["steps"] == round(0.5 * -(-captions // 4))


def test_a_stage_on_questions_is_validated_and_evaluated_by_its_answers(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        {"video": str(clip.video.relative_to(toy.data)), "question": "What moves?", "answers": "a ball", "split": split}
        for split in ("train", "validate")
        for clip in toy.clips(split)
    ]
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = {"kind": "questions", "dataset": "jsonl_qa", "root": str(tmp_path), "video_root": str(toy.data)}
    stages = [{"name": "align"}, {"name": "questions", "data": data}]
    recipe = write_recipe(toy, tmp_path / "asked.yaml", stages, max_steps=1)
    last = quietly(recipe)
    assert (recipe.stages[0].directory / "evaluation/mini-validate/result.json").is_file()
    assert "best_accuracy" in json.loads((last / "training.json").read_text())
    result = json.loads((last / "answers/jsonl_qa-validate/result.json").read_text())
    assert result["questions"] == 4
    monkeypatch.setattr("evlvideo.experiments.recipe.run.answer_questions", lambda *_: pytest.fail("answered twice"))
    assert quietly(recipe, resume=True) == last

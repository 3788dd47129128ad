"""The newest whole checkpoint is resumed from, and the oldest by step are removed."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from resumed_run import config_of, newest, quietly
from safetensors.torch import load_file, save_file
from toy_run import Toy

from evlvideo.errors import UserError
from evlvideo.files import read_json
from evlvideo.training.resuming.checkpoints import (
    checkpoint_to_resume,
    newest_checkpoint,
    problem_of_checkpoint,
    rotate,
)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


NEEDED = (
    "model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "trainer_state.json",
    "config.json",
    "towers.json",
)


@pytest.mark.parametrize("damage", [Path.unlink, cut, zeros], ids=["missing", "cut", "zeros"])
@pytest.mark.parametrize("name", NEEDED)
def test_an_older_whole_checkpoint_is_taken(run: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(newest(run) / name)
    assert checkpoint_to_resume(run, resume=True) == run / "checkpoints" / "checkpoint-2"
    problem = problem_of_checkpoint(newest(run))
    assert problem is not None and name in problem


def test_an_interval_that_was_cut_short_is_told(run: Path) -> None:
    cut(newest(run) / "log_interval.json")
    assert "log_interval.json" in str(problem_of_checkpoint(newest(run)))


@pytest.mark.parametrize("content", ["[]", "{}", '{"sums": 3}', '{"sums": {}, "unknown": 1}'])
def test_an_interval_of_another_form_is_told(run: Path, content: str) -> None:
    (newest(run) / "log_interval.json").write_text(content)
    assert "log_interval.json" in str(problem_of_checkpoint(newest(run)))


def test_a_renamed_checkpoint_is_not_of_the_step_it_claims(run: Path) -> None:
    renamed = newest(run).rename(run / "checkpoints" / "checkpoint-9")
    assert problem_of_checkpoint(renamed) == "its trainer_state.json is of step 4"


def test_random_states_of_all_processes_are_needed(run: Path) -> None:
    interval = newest(run) / "log_interval.json"
    interval.write_text(json.dumps({**read_json(interval), "processes": 2}))
    assert problem_of_checkpoint(newest(run)) == "rng_state_0.pth is missing"
    for index in range(2):
        shutil.copy(newest(run) / "rng_state.pth", newest(run) / f"rng_state_{index}.pth")
    assert problem_of_checkpoint(newest(run)) is None


@pytest.mark.parametrize("name", ["checkpoint-6.bak", "checkpoint-old", "checkpoint-", "my-checkpoint-6"])
def test_other_folders_beside_checkpoints_are_none(run: Path, name: str) -> None:
    shutil.copytree(newest(run), run / "checkpoints" / name)
    (run / "checkpoints" / "checkpoint-9").touch()
    assert newest_checkpoint(run / "checkpoints") == newest(run)


def test_the_run_that_goes_on_says_what_was_passed_over_and_equals_the_whole_one(
    toy: Toy, run: Path, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (newest(run) / "optimizer.pt").unlink()
    quietly(config_of(toy, run, training={"max_steps": 4}), resume=True)
    assert "checkpoint-4 is passed over: optimizer.pt is missing. The run resumes from checkpoint-2." in caplog.text
    ends = [load_file(newest(path) / "model.safetensors") for path in (run, trained)]
    assert all(torch.equal(weight, ends[1][name]) for name, weight in ends[0].items())
    assert problem_of_checkpoint(newest(run)) is None


def test_a_run_without_a_whole_checkpoint_says_what_is_wrong_with_each(toy: Toy, run: Path) -> None:
    for step, name in ((2, "scheduler.pt"), (4, "optimizer.pt")):
        cut(run / "checkpoints" / f"checkpoint-{step}" / name)
    told = "checkpoint-4: optimizer.pt is cut short or broken; checkpoint-2: scheduler.pt is cut short or broken"
    with pytest.raises(UserError, match=rf"no whole checkpoint to resume from in .* \({told}\); train without"):
        quietly(config_of(toy, run), resume=True)


def test_what_is_left_of_a_step_does_not_complete_its_new_checkpoint(
    toy: Toy, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save that is killed after the weights leaves them alone, not beside an older optimizer."""
    cut(newest(run) / "rng_state.pth")

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("evlvideo.training.trainer.CaptionTrainer._save_optimizer_and_scheduler", killed)
    with pytest.raises(KeyboardInterrupt):
        quietly(config_of(toy, run, training={"max_steps": 4}), resume=True)
    assert not (newest(run) / "trainer_state.json").exists()
    assert newest_checkpoint(run / "checkpoints") == run / "checkpoints" / "checkpoint-2"


def test_a_best_checkpoint_that_is_gone_does_not_cost_the_run(
    toy: Toy, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = newest(run) / "trainer_state.json"
    state.write_text(json.dumps({**read_json(state), "best_global_step": 2, "best_metric": 100.0}))
    shutil.rmtree(run / "checkpoints" / "checkpoint-2")
    quietly(config_of(toy, run, training={"max_steps": 6}), resume=True)
    assert "of step 2, is gone or broken (model.safetensors is missing)" in caplog.text
    summary = read_json(run / "training.json")
    assert (summary["best_step"], summary["best_cider"]) != (2, 100.0)


# Rotation


def checkpoints(directory: Path, *steps: int) -> None:
    for step in steps:
        (directory / f"checkpoint-{step}").mkdir(parents=True)


def left(directory: Path) -> list[str]:
    return sorted(path.name.removeprefix("checkpoint-") for path in directory.iterdir())


@pytest.mark.parametrize(
    "best, kept",
    [(None, ["20", "30", "8"]), (10, ["10", "20", "30"]), (4, ["20", "30", "4"]), (30, ["20", "30", "8"])],
)
def test_the_oldest_by_step_are_removed(tmp_path: Path, best: int | None, kept: list[str]) -> None:
    """Two, and the best; the times of their files have been turned round."""
    steps = (4, 8, 10, 20, 30) if best in (10, 4) else (4, 8, 20, 30)
    checkpoints(tmp_path, *steps)
    for step in steps:
        os.utime(tmp_path / f"checkpoint-{step}", (10_000 - step, 10_000 - step))
    rotate(tmp_path, 2, newest=30, best=best)
    assert left(tmp_path) == kept


def test_leftovers_of_later_steps_take_no_place_and_others_folders_stay(tmp_path: Path) -> None:
    checkpoints(tmp_path, 2, 4, 6, 100)
    (tmp_path / "checkpoint-2.bak").mkdir()
    rotate(tmp_path, 1, newest=6, best=4)
    assert left(tmp_path) == ["100", "2.bak", "4", "6"]


def test_a_clock_that_was_set_back_costs_no_new_checkpoint(toy: Toy, run: Path) -> None:
    for step in (2, 4):
        os.utime(run / "checkpoints" / f"checkpoint-{step}", (4e9, 4e9))
    quietly(config_of(toy, run, training={"max_steps": 8, "keep_checkpoints": 1}), resume=True)
    assert (run / "checkpoints" / "checkpoint-8").is_dir()
    assert len(list((run / "checkpoints").iterdir())) == 2


def test_weights_in_several_files_are_whole_if_all_are(run: Path) -> None:
    """As they are saved where towers are trained and large."""
    checkpoint = newest(run)
    weights = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, held in shards.items():
        save_file({name: weights[name] for name in held}, checkpoint / file)
    index = {"metadata": {}, "weight_map": {name: file for file, held in shards.items() for name in held}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    assert problem_of_checkpoint(checkpoint) is None
    cut(checkpoint / "model-00002-of-00002.safetensors")
    assert problem_of_checkpoint(checkpoint) == "model-00002-of-00002.safetensors is cut short or broken"
    (checkpoint / "model-00002-of-00002.safetensors").unlink()
    assert problem_of_checkpoint(checkpoint) == "model-00002-of-00002.safetensors is missing"

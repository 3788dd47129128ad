import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor
from toy_run import Toy, start
from transformers import TrainerCallback

from evlvideo.config.loading import load_config, save_config
from evlvideo.config.run import RunConfig
from evlvideo.data.loading.mixture import Mixture
from evlvideo.errors import Interrupted, UserError
from evlvideo.files import read_json
from evlvideo.inference.captions import Caption
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.results.run_directory import sole_use
from evlvideo.results.validation_records import read_records
from evlvideo.training import run as run_module
from evlvideo.training import trainer as trainer_module
from evlvideo.training import validation as validation_module
from evlvideo.training.arguments import training_arguments
from evlvideo.training.resuming.checkpoints import checkpoint_to_resume
from evlvideo.training.resuming.log_interval import INTERVAL_NAME
from evlvideo.training.run import train

MODEL = {"fusion": "mean_tokens", "contextualizer": "merged", "frame_positions": True}
# Ends after the checkpoint of step 4, in the middle of step 5.
KILL = """
import os, signal
from evlvideo.training.trainer import CaptionTrainer
original = CaptionTrainer.training_step
def step(self, *args, **kwargs):
    if self.state.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *args, **kwargs)
CaptionTrainer.training_step = step
"""


def config_of(toy: Toy, directory: Path, stage: str, **sections: Any) -> RunConfig:
    run = {"stage": stage, **sections.pop("run", {})}
    return toy.config(directory, model=MODEL, run=run, **sections)


def quietly(config: RunConfig, **arguments: Any) -> Path:
    return train(config, console=Console(quiet=True), **arguments)


def files_of(run: Path) -> dict[Path, int]:
    """Each file, and when it was written to."""
    return {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}


def log_of(run: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [
        {name: value for name, value in line.items() if "second" not in name and "runtime" not in name}
        for line in lines
    ]


def summary_of(run: Path) -> dict[str, Any]:
    return {name: value for name, value in read_json(run / "training.json").items() if "second" not in name}


def same(first: Any, second: Any) -> bool:
    """Whether two nested states are equal, bit for bit."""
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def assert_same_run(run: Path, other: Path, step: int = 6) -> None:
    ends = [directory / "checkpoints" / f"checkpoint-{step}" for directory in (run, other)]
    for name in ("optimizer.pt", "scheduler.pt"):
        states = [torch.load(end / name, weights_only=True) for end in ends]
        assert same(*states), name
    assert same(*[load_file(end / "model.safetensors") for end in ends])
    assert same(*[load_file(directory / "model.safetensors") for directory in (run, other)])
    # The random state to go on from, but for Python's, whose form differs.
    states = [torch.load(end / "rng_state.pth", weights_only=False) for end in ends]
    assert same(*[state["cpu"] for state in states])


@pytest.fixture(scope="module")
def uninterrupted(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each stage. They are not to be changed."""
    return {
        stage: quietly(config_of(toy, tmp_path_factory.mktemp(stage) / "run", stage)) for stage in ("caption", "scst")
    }


@pytest.fixture(scope="module")
def killed(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each stage that was killed after its second checkpoint, in a directory with a folder `datasets`."""
    runs, processes = {}, {}
    for stage in ("caption", "scst"):
        working = tmp_path_factory.mktemp(f"killed-{stage}")
        (working / "datasets").mkdir()
        runs[stage] = working / "run"
        save_config(config_of(toy, runs[stage], stage), working / "config.yaml")
        processes[stage] = start("train", "config.yaml", setup=KILL, cwd=working)
    for process in processes.values():
        _, errors = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, errors
    return runs


@pytest.mark.parametrize("stage", ["caption", "scst"])
def test_a_run_that_stopped_between_log_lines_logs_the_same_means(
    toy: Toy, tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def config(name: str) -> RunConfig:
        return config_of(toy, tmp_path / name / "run", stage, training={"log_steps": 3, "eval_steps": 6})

    quietly(config("whole"))
    with monkeypatch.context() as patch:
        signalled(patch, step=2)
        with pytest.raises(Interrupted):
            quietly(config("stopped"))
    quietly(config("stopped"), resume=True)
    lines = log_of(tmp_path / "whole" / "run")
    assert len([line for line in lines if "loss" in line]) == 2
    assert log_of(tmp_path / "stopped" / "run") == lines


def test_a_checkpoint_without_its_log_interval_is_resumed(toy: Toy, tmp_path: Path, killed: dict[str, Path]) -> None:
    run = tmp_path / "run"
    shutil.copytree(killed["caption"], run)
    (run / "checkpoints" / "checkpoint-4" / INTERVAL_NAME).unlink()
    quietly(config_of(toy, run, "caption"), resume=True)
    assert (run / "training.json").is_file()


def test_bad_clips_that_cannot_be_named_do_not_cost_the_run(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(mixture: Mixture) -> list[str]:
        raise UserError("The shard 00000.tar is gone.")

    monkeypatch.setattr(Mixture, "bad_clips", property(gone))
    run = quietly(config_of(toy, tmp_path / "run", "caption", training={"max_steps": 1}))
    assert read_json(run / "training.json")["steps"] == 1
    assert "cannot be named: The shard 00000.tar is gone." in caplog.text


@pytest.mark.parametrize("stage", ["caption", "scst"])
def test_a_killed_run_that_is_resumed_equals_one_that_was_not_killed(
    toy: Toy, tmp_path: Path, stage: str, killed: dict[str, Path], uninterrupted: dict[str, Path]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(killed[stage], run)
    assert not (run / "training.json").exists()
    quietly(config_of(toy, run, stage), resume=True)
    assert_same_run(run, uninterrupted[stage])
    assert log_of(run) == log_of(uninterrupted[stage])
    assert [record.step for record in read_records(run)][-3:] == [2, 4, 6]
    assert read_records(run) == read_records(uninterrupted[stage])
    assert summary_of(run) == summary_of(uninterrupted[stage])


@pytest.mark.parametrize("stage", ["caption", "scst"])
def test_the_compared_runs_train_and_draw_at_random(uninterrupted: dict[str, Path], toy: Toy, stage: str) -> None:
    first, last = (
        load_file(uninterrupted[stage] / "checkpoints" / f"checkpoint-{step}" / "model.safetensors") for step in (4, 6)
    )
    assert not same(first, last)
    losses = [line["loss"] for line in log_of(uninterrupted[stage]) if "loss" in line]
    assert len(set(losses)) == 6


def test_another_seed_is_another_run(toy: Toy, tmp_path: Path, uninterrupted: dict[str, Path]) -> None:
    run = quietly(config_of(toy, tmp_path / "run", "scst", run={"seed": 43}, training={"max_steps": 1}))
    first, second = (
        next(line["loss"] for line in log_of(directory) if "loss" in line) for directory in (run, uninterrupted["scst"])
    )
    assert first != second


def test_a_folder_called_datasets_in_the_working_directory_does_no_harm(killed: dict[str, Path]) -> None:
    for run in killed.values():
        assert (run.parent / "datasets").is_dir()
        assert (run / "checkpoints" / "checkpoint-4" / "trainer_state.json").is_file()


@pytest.mark.parametrize("state", [None, "", '{"global_step": 6', "[]", "null", '{"unknown": 1}'])
def test_a_half_written_checkpoint_is_passed_over(
    toy: Toy, tmp_path: Path, state: str | None, killed: dict[str, Path]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(killed["caption"], run)
    broken = run / "checkpoints" / "checkpoint-6"
    shutil.copytree(run / "checkpoints" / "checkpoint-4", broken)
    (broken / "optimizer.pt").write_bytes(b"half")
    (broken / "trainer_state.json").unlink()
    if state is not None:
        (broken / "trainer_state.json").write_text(state)
    found = checkpoint_to_resume(run, resume=True)
    assert found == run / "checkpoints" / "checkpoint-4"


def test_a_half_written_checkpoint_is_replaced_on_the_way(
    toy: Toy, tmp_path: Path, killed: dict[str, Path], uninterrupted: dict[str, Path]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(killed["caption"], run)
    broken = run / "checkpoints" / "checkpoint-6"
    broken.mkdir()
    (broken / "model.safetensors").write_bytes(b"half")
    quietly(config_of(toy, run, "caption"), resume=True)
    assert_same_run(run, uninterrupted["caption"])


def test_a_run_killed_after_its_last_step_is_finished_by_resuming(
    toy: Toy, tmp_path: Path, uninterrupted: dict[str, Path]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted["caption"], run)
    (run / "training.json").unlink()
    (run / "model.safetensors").unlink()
    quietly(config_of(toy, run, "caption"), resume=True)
    assert_same_run(run, uninterrupted["caption"])
    assert summary_of(run) == summary_of(uninterrupted["caption"])


@pytest.mark.parametrize("limit", ["patience", "max_hours"])
def test_a_limit_ends_a_run_in_order_and_resuming_goes_on_once_it_is_raised(
    toy: Toy, tmp_path: Path, limit: str, uninterrupted: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No validation is better than the first, or all hours are over in the third step."""
    if limit == "patience":
        told = iter([0.5, 0.5, 0.5])
        original = validation_module.score_tokenized
        monkeypatch.setattr(
            validation_module,
            "score_tokenized",
            lambda *args, **kwargs: replace(original(*args, **kwargs), corpus={"cider": next(told)}),
        )
    else:
        seconds = lambda trainer: 1000.0 * trainer.state.global_step  # noqa: E731
        monkeypatch.setattr(trainer_module.CaptionTrainer, "training_seconds", property(seconds))
    step, training = {"patience": (4, {"patience": 1}), "max_hours": (3, {"max_hours": 0.8})}[limit]
    run = quietly(config_of(toy, tmp_path / "run", "caption", training=training))
    for _ in range(2):  # resuming with the limit as it is trains nothing, and finishes what may not have been
        summary = read_json(run / "training.json")
        assert (summary["steps"], summary["ended_by"]) == (step, f"training.{limit}")
        assert (run / "model.safetensors").is_file()
        assert [line["step"] for line in log_of(run) if "validation_cider" in line] == [2, step]
        (run / "training.json").unlink()
        quietly(config_of(toy, run, "caption", training=training), resume=True)
    quietly(config_of(toy, run, "caption"), resume=True)
    assert read_json(run / "training.json")["ended_by"] == "training.max_steps"
    ends = [
        load_file(path / "checkpoints" / "checkpoint-6" / "model.safetensors")
        for path in (run, uninterrupted["caption"])
    ]
    assert same(*ends)


def caption_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let validations find one caption for all clips."""
    original = validation_module.generate_captions

    def captions(*args: Any, **kwargs: Any) -> dict[str, Caption]:
        return dict.fromkeys(original(*args, **kwargs), Caption("a ball"))

    monkeypatch.setattr(validation_module, "generate_captions", captions)


@pytest.mark.parametrize("stage", ["caption", "scst"])
def test_a_run_that_collapses_ends_in_order_where_that_is_asked_for(
    toy: Toy, tmp_path: Path, stage: str, uninterrupted: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(toy, tmp_path / "run", stage, training={"stop_on_collapse": True})
    run = tmp_path / "run"
    said = r"has collapsed \(captions-alike\), and training\.stop_on_collapse ended it at step 2 of 6\. 4 clips have 1"
    with monkeypatch.context() as patch:
        caption_alike(patch)
        with pytest.raises(UserError, match=said):
            quietly(config)
    for _ in range(2):  # resuming trains nothing, and finishes what may not have been
        summary = read_json(run / "training.json")
        assert (summary["steps"], summary["ended_by"]) == (2, "training.stop_on_collapse")
        assert summary["signs"][0].startswith("captions-alike: ")
        assert (run / "model.safetensors").is_file()
        assert read_records(run)[-1].warnings[0].startswith("captions-alike: ")
        (run / "training.json").unlink()
        with pytest.raises(UserError, match=said):
            quietly(config, resume=True)
    quietly(config_of(toy, run, stage), resume=True)
    assert read_json(run / "training.json")["ended_by"] == "training.max_steps"
    ends = [
        load_file(path / "checkpoints" / "checkpoint-6" / "model.safetensors") for path in (run, uninterrupted[stage])
    ]
    assert same(*ends)


def test_a_collapse_is_warned_of_at_every_validation_and_the_run_goes_on(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caption_alike(monkeypatch)
    run = quietly(config_of(toy, tmp_path / "run", "caption", training={"max_steps": 4}))
    warned = [message for message in caplog.messages if "captions-alike: " in message]
    assert [message[: len("run step 2")] for message in warned] == ["run step 2", "run step 4"]
    assert read_json(run / "training.json")["ended_by"] == "training.max_steps"


def test_a_run_that_goes_on_is_not_finished(toy: Toy, tmp_path: Path, uninterrupted: dict[str, Path]) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted["caption"], run)
    config = config_of(toy, run, "caption", training={"max_steps": 7})
    with pytest.MonkeyPatch.context() as patch:
        signalled(patch, step=7)
        patch.setattr(config.training, "max_steps", 100)
        with pytest.raises(Interrupted):
            quietly(config, resume=True)
    assert not (run / "training.json").exists()


@pytest.mark.parametrize("stage", ["caption", "scst"])
def test_a_signal_cuts_a_validation_short_and_resuming_makes_up_for_it(
    toy: Toy, tmp_path: Path, stage: str, uninterrupted: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, batches = validation_module.Validator._texts, list[int]()

    def texts(validator: Any, clip_ids: Sequence[str]) -> dict[str, Tensor]:
        batches.append(len(clip_ids))
        signal.raise_signal(signal.SIGTERM)
        return original(validator, clip_ids)

    config = config_of(toy, tmp_path / "run", stage, generation={"batch_size": 1})
    with monkeypatch.context() as patch:
        patch.setattr(validation_module.Validator, "_texts", texts)
        with pytest.raises(Interrupted, match=r"Stopped at step 2 of 6"):
            quietly(config)
    assert batches == [1]
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-2" / "trainer_state.json").is_file()
    quietly(config, resume=True)
    assert_same_run(tmp_path / "run", uninterrupted[stage])
    assert validations(tmp_path / "run") == validations(uninterrupted[stage])
    assert summary_of(tmp_path / "run") == summary_of(uninterrupted[stage])


def validations(run: Path) -> list[tuple[int, float]]:
    return [(line["step"], line["validation_cider"]) for line in log_of(run) if "validation_cider" in line]


def test_tensorboard_files_are_in_the_runs_directory(toy: Toy, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    training = {"max_steps": 1, "arguments": {"report_to": ["tensorboard"]}}
    run = quietly(config_of(toy, tmp_path / "run", "caption", training=training))
    assert list((run / "tensorboard").glob("events.*"))
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"checkpoint-1"}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"report_to": ["wandbb"]}, "report_to names wandbb: wandbb is not supported, only .*wandb"),
        ({"optim": "adamww"}, "adamww is not a valid OptimizerNames, please select one of"),
        ({"optim": "galore_adamw"}, "training.arguments.optim is galore_adamw"),
        ({"torch_compile_backend": "indctor"}, "'indctor'; allowed: .*inductor"),
        ({"gradient_checkpointing_kwargs": {"reentrant": False}}, "has 'reentrant'; allowed: use_reentrant, "),
        ({"dataloader_persistent_workers": True}, "needs data.num_workers of 1 or more; it is 0"),
        ({"dataloader_prefetch_factor": 2}, "dataloader_prefetch_factor can only be set when"),
    ],
)
def test_arguments_that_do_not_work_are_told_before_anything_is_written(
    toy: Toy, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        quietly(config_of(toy, tmp_path / "run", "caption", training={"arguments": arguments}))
    assert not (tmp_path / "run" / "log.jsonl").exists()


@pytest.mark.parametrize("library, arguments", [("wandb", {"report_to": ["wandb"]}), ("deepspeed", {"deepspeed": "a"})])
def test_a_library_that_is_missing_is_named(toy: Toy, tmp_path: Path, library: str, arguments: dict[str, Any]) -> None:
    if importlib.util.find_spec(library):
        pytest.skip(f"{library} is installed")
    with pytest.raises(UserError, match=f"pip install {library}"):
        quietly(config_of(toy, tmp_path / "run", "caption", training={"arguments": arguments}))


def test_a_run_follows_arguments(toy: Toy, tmp_path: Path) -> None:
    given = {"optim": "sgd", "gradient_checkpointing": True, "logging_first_step": True}
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        arguments = training_arguments(
            toy.config(tmp_path / "run", training={"arguments": given}, data={"num_workers": 2}), "fp32"
        )
    assert (arguments.optim, arguments.gradient_checkpointing, arguments.logging_first_step) == ("sgd", True, True)
    assert (arguments.run_name, arguments.report_to) == ("run", [])
    assert arguments.dataloader_persistent_workers


def test_seconds_before_a_kill_count(toy: Toy, tmp_path: Path, killed: dict[str, Path]) -> None:
    run = tmp_path / "run"
    shutil.copytree(killed["caption"], run)
    path = run / "checkpoints" / "checkpoint-4" / "trainer_state.json"
    state = json.loads(path.read_text())
    state["log_history"][-1]["training_seconds"] = 1000.0
    path.write_text(json.dumps(state))
    quietly(config_of(toy, run, "caption"), resume=True)
    assert 1000 < read_json(run / "training.json")["training_seconds"] < 1100


class Signal(TrainerCallback):
    """Sends this process a signal in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step - 1:
            signal.raise_signal(signal.SIGINT)


def signalled(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let Ctrl-C be pressed during a step of the next run."""
    with_callbacks(monkeypatch, Signal(step))


def with_callbacks(monkeypatch: pytest.MonkeyPatch, *callbacks: TrainerCallback) -> None:
    """Add callbacks to the trainers of the next runs."""
    original = run_module._make_trainer

    def make(*args: Any, **kwargs: Any) -> Any:
        trainer = original(*args, **kwargs)
        for callback in callbacks:
            trainer.add_callback(callback)
        return trainer

    monkeypatch.setattr(run_module, "_make_trainer", make)


@pytest.mark.parametrize("stage", ["caption", "scst"])
def test_ctrl_c_leaves_a_checkpoint_from_which_the_run_goes_on_as_if_nothing_was(
    toy: Toy, tmp_path: Path, stage: str, uninterrupted: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(toy, tmp_path / "run", stage)
    with monkeypatch.context() as patch:
        signalled(patch, step=3)
        with pytest.raises(Interrupted, match=r"Stopped at step 3 of 6, with a checkpoint in .*--resume"):
            quietly(config)
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-3" / "trainer_state.json").is_file()
    assert not (tmp_path / "run" / "training.json").exists()
    quietly(config, resume=True)
    assert_same_run(tmp_path / "run", uninterrupted[stage])
    assert log_of(tmp_path / "run") == log_of(uninterrupted[stage])
    assert summary_of(tmp_path / "run") == summary_of(uninterrupted[stage])


def test_ctrl_c_in_the_last_step_lets_the_run_finish(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = config_of(toy, tmp_path / "run", "caption", training={"max_steps": 2})
    signalled(monkeypatch, step=2)
    quietly(config)
    assert read_json(tmp_path / "run" / "training.json")["steps"] == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_all_processes_stops_in_order(toy: Toy, tmp_path: Path, number: signal.Signals) -> None:
    """As of a terminal's Ctrl-C, and of a cluster's end of a job; launchers pass it on to the program once more."""
    config = config_of(
        toy, tmp_path / "run", "caption", data={"num_workers": 1}, training={"max_steps": 100_000, "eval_steps": 50_000}
    )
    save_config(config, tmp_path / "config.yaml")
    process = start("train", "config.yaml", cwd=tmp_path)
    give_up = threading.Timer(60, process.kill)
    give_up.start()
    while not (tmp_path / "run" / "log.jsonl").is_file() and process.poll() is None:
        time.sleep(0.05)
    os.killpg(process.pid, number)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    give_up.cancel()
    assert process.returncode == 130, errors
    assert "--resume" in errors and "Traceback" not in errors + output
    assert "run step 1/100000  loss" in errors
    checkpoints = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert len(checkpoints) == 1
    step = int(checkpoints[0].rpartition("-")[2])
    assert f"Stopped at step {step} of 100000" in errors


def test_what_a_killed_save_left_is_cleared_by_who_trains_there(
    toy: Toy, tmp_path: Path, uninterrupted: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    run = shutil.copytree(uninterrupted["caption"], tmp_path / "run")
    left = [run / ".tmpAbC123", run / "checkpoints" / "checkpoint-6" / ".tmp0a1B2c", run / ".config.yaml.abcd1234.yaml"]
    for file in left:
        file.write_bytes(b"half")
    with pytest.raises(UserError):
        quietly(config_of(toy, run, "caption"))
    assert all(file.exists() for file in left)
    with caplog.at_level("INFO", "evlvideo"):
        quietly(config_of(toy, run, "caption"), resume=True)
    assert not any(file.exists() for file in left)
    assert "which a killed process left unfinished" in caplog.text


class KillsWorkers(TrainerCallback):
    """Ends the processes that load data, as the system does when memory is short, in some steps of a run."""

    def __init__(self, *steps: int) -> None:
        self.steps = steps

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step + 1 in self.steps:
            for worker in multiprocessing.active_children():
                worker.kill()


@pytest.mark.parametrize(("stage", "persistent"), [("caption", True), ("caption", False), ("scst", True)])
def test_workers_that_the_system_ends_start_again_and_change_nothing(
    toy: Toy,
    tmp_path: Path,
    stage: str,
    persistent: bool,
    uninterrupted: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In a run that is resumed in the middle of an epoch, too."""
    training = {"arguments": {"dataloader_persistent_workers": persistent, "dataloader_prefetch_factor": 1}}
    config = config_of(toy, tmp_path / "run", stage, data={"num_workers": 1}, training=training)
    with monkeypatch.context() as patch:
        with_callbacks(patch, KillsWorkers(2), Signal(3))
        with pytest.raises(Interrupted):
            quietly(config)
    with_callbacks(monkeypatch, KillsWorkers(4))
    quietly(config, resume=True)
    assert "A process that loads data was ended" in caplog.text
    assert_same_run(tmp_path / "run", uninterrupted[stage])


def test_resuming_needs_a_checkpoint(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no checkpoint to resume from in .*checkpoints; train without --resume"):
        quietly(config_of(toy, tmp_path / "run", "caption"), resume=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ["caption", "scst"])
def test_a_used_directory_is_not_trained_into(toy: Toy, stage: str, uninterrupted: dict[str, Path]) -> None:
    run = uninterrupted[stage]
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(UserError, match=r"already holds a run\. Add --resume"):
        quietly(config_of(toy, run, stage))
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_finished_run_without_its_resumable_checkpoints_is_not_trained_into(toy: Toy, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "training.json").write_text("{}")
    with pytest.raises(UserError, match="already holds a run"):
        quietly(config_of(toy, run, "caption"))


@pytest.mark.parametrize("resume", [False, True])
def test_a_directory_that_another_process_trains_in_is_not_trained_into(
    toy: Toy, tmp_path: Path, uninterrupted: dict[str, Path], resume: bool
) -> None:
    run = tmp_path / "run"
    if resume:
        shutil.copytree(uninterrupted["caption"], run)
    with sole_use(run):
        before = files_of(run)
        with pytest.raises(UserError, match="Another process trains in"):
            quietly(config_of(toy, run, "caption"), resume=resume)
        assert files_of(run) == before


@pytest.mark.parametrize(
    "sections, message",
    [
        ({"data": {"train_split": "trian"}}, "no split 'trian'; allowed: train, validate, test"),
        ({"data": {"validation_split": "val"}}, "no split 'val'; allowed: train, validate, test"),
        ({"data": {"video_root": "/nowhere"}}, "video root /nowhere is not a directory"),
        ({"data": {"root": "/nowhere"}}, "data root /nowhere is not a directory"),
        ({"run": {"init": "/nowhere"}}, "no checkpoint at /nowhere"),
    ],
)
def test_what_is_not_there_is_told_before_anything_is_written(
    toy: Toy, tmp_path: Path, sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        quietly(config_of(toy, tmp_path / "run", "caption", **sections))
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_holds_its_config(uninterrupted: dict[str, Path], toy: Toy) -> None:
    for stage, run in uninterrupted.items():
        assert load_config(run / "config.yaml") == config_of(toy, run, stage)


def test_a_finished_run_holds_its_summary(uninterrupted: dict[str, Path], toy: Toy) -> None:
    run = uninterrupted["caption"]
    summary = read_json(run / "training.json")
    ciders = {line["step"]: line["validation_cider"] for line in log_of(run) if "validation_cider" in line}
    assert summary["best_cider"] == max(ciders.values()) == ciders[summary["best_step"]]
    assert (summary["name"], summary["stage"], summary["init"]) == ("run", "caption", str(toy.checkpoint))
    assert (summary["steps"], summary["seed"]) == (6, 42)
    assert summary["training_seconds"] > 0
    trained = load_file(run / "model.safetensors")
    assert summary["trained_parameters"] == sum(weight.numel() for weight in trained.values())


def test_a_finished_run_is_a_checkpoint(uninterrupted: dict[str, Path]) -> None:
    model = EvlVideoForCaptioning.from_pretrained(uninterrupted["scst"])
    assert (model.config.contextualizer, model.config.frame_positions) == ("merged", True)


def test_a_run_starts_from_another(toy: Toy, tmp_path: Path, uninterrupted: dict[str, Path]) -> None:
    start_from = uninterrupted["caption"]
    config = toy.config(tmp_path / "run", init=start_from, run={"stage": "scst"}, training={"max_steps": 1})
    config.training.learning_rate = config.training.min_learning_rate = 1e-20
    config.training.warmup_steps = 0
    run = quietly(config)
    assert same(load_file(run / "model.safetensors"), load_file(start_from / "model.safetensors"))


def test_validation_may_look_at_the_first_clips_only(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    original = run_module._make_trainer

    def make(*args: Any, **kwargs: Any) -> Any:
        trainer = original(*args, **kwargs)
        seen.append(list(trainer.validator.references))
        return trainer

    monkeypatch.setattr(run_module, "_make_trainer", make)
    quietly(config_of(toy, tmp_path / "run", "caption", data={"validation_clips": 2}, training={"max_steps": 1}))
    assert seen == [[clip.clip_id for clip in toy.clips("validate")][:2]]


@pytest.mark.parametrize("stage", ["caption", "scst"])
def test_workers_that_live_from_epoch_to_epoch_change_nothing(
    toy: Toy, tmp_path: Path, stage: str, uninterrupted: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the self-critical stage, six steps are three epochs; its run is interrupted in the second."""
    config = config_of(toy, tmp_path / "run", stage, data={"num_workers": 2})
    with monkeypatch.context() as patch:
        signalled(patch, step=3)
        with pytest.raises(Interrupted):
            quietly(config)
    quietly(config, resume=True)
    assert_same_run(tmp_path / "run", uninterrupted[stage])

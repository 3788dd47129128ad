"""Two real processes, on the CPU: what they train is what one would, and they share the captioning."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from toy_run import ROOT, Toy, environment

from evlvideo.config import RunConfig, save_config
from evlvideo.evaluation.results import EvaluationResult, read_predictions
from evlvideo.files import read_json
from evlvideo.training.run import train

PROGRAM = """
import json, sys
sys.path[:0] = [ROOT, ROOT + "/tests"]
from pathlib import Path
from accelerate import PartialState
from rich.console import Console
import toy_run
from evlvideo.config import load_config
from evlvideo.data import annotations
from evlvideo.data.datasets import CaptionDataset
from evlvideo.data.mini import build
from evlvideo.data.mixture import Mixture
from evlvideo.evaluation import java
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.training.run import train

build.SPLITS = toy_run.SPLITS
java._java_on_path = java._java_of_package = lambda: None
directory = Path(sys.argv[1])
opened, epochs = [], []
original = CaptionDataset.__getitem__
def get(self, index):
    opened.append(self.clips[index % len(self.clips)].clip_id)
    return original(self, index)
CaptionDataset.__getitem__ = get
draw = Mixture.draw
def note(self, index):
    epochs.append(int(self._epoch))
    return draw(self, index)
Mixture.draw = note
looked_for = []
missing_files = annotations.missing_files
annotations.missing_files = lambda clips: looked_for.append(len(clips)) or missing_files(clips)
for name in ("caption", "scst"):
    epochs.clear()
    train(load_config(directory / f"{name}.yaml"), console=Console(quiet=True))
report = {"epochs": sorted(set(epochs))}
opened.clear()
result = evaluate(directory / "caption")
state = PartialState()
report["looked_for"] = looked_for
report |= {"processes": state.num_processes, "opened": opened, "scores": result.scores}
(directory / f"report-{state.process_index}.json").write_text(json.dumps(report))
"""


def run_config(toy: Toy, directory: Path, stage: str, batch_size: int, **training: Any) -> RunConfig:
    """Steps without anything that two processes draw otherwise than one; of SCST three, to reach the second epoch."""
    steps = {"caption": 2, "scst": 3}[stage]
    return toy.config(
        directory,
        init=checkpoint_without_dropout(toy, directory.parent),
        run={"stage": stage},
        model={"fusion": "mean_tokens", "contextualizer": "merged"},
        training={"max_steps": steps, "eval_steps": steps, "warmup_steps": 0, "batch_size": batch_size} | training,
        generation={"batch_size": 2},
        # What a search finds does not depend on who draws it. Captions of up to 25 tokens end at different places.
        scst={"candidates": "beams", "baseline": "greedy", "max_new_tokens": 25},
    )


def checkpoint_without_dropout(toy: Toy, directory: Path) -> Path:
    copy = directory / "checkpoint"
    if not copy.exists():
        shutil.copytree(toy.checkpoint, copy)
        config = read_json(copy / "config.json")
        config["bert_config"].update(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        (copy / "config.json").write_text(json.dumps(config))
    return copy


@pytest.fixture(scope="module")
def together(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of runs that two processes made."""
    directory = tmp_path_factory.mktemp("together")
    for stage in ("caption", "scst"):
        config = run_config(toy, directory / stage, stage, batch_size=2)
        save_config(config, directory / f"{stage}.yaml")
    program = directory / "program.py"
    program.write_text(f"ROOT = {str(ROOT)!r}\n{PROGRAM}")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(program), str(directory)],
        env=environment(ACCELERATE_USE_CPU="true"),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return directory


@pytest.fixture(scope="module")
def alone(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that one process made, with twice the batch."""
    directory = tmp_path_factory.mktemp("alone") / "caption"
    return train(run_config(toy, directory, "caption", batch_size=4), console=Console(quiet=True))


def reports(directory: Path) -> list[dict[str, Any]]:
    found = [read_json(directory / f"report-{place}.json") for place in range(2)]
    assert [report["processes"] for report in found] == [2, 2]
    return found


def test_two_processes_train_as_one_with_twice_the_batch(together: Path, alone: Path) -> None:
    start = load_file(alone.parent / "checkpoint" / "model.safetensors")
    one, two = (load_file(run / "model.safetensors") for run in (alone, together / "caption"))
    moved = max(float((one[name] - start[name]).abs().max()) for name in start)
    assert moved > 1e-3
    for name in one:
        # Keys' biases have no gradient but rounding, which Adam makes into steps; so it does, in small, wherever a
        # gradient is small. A hundredth of a step is nothing.
        if not name.endswith("key.bias"):
            torch.testing.assert_close(two[name], one[name], atol=1e-4, rtol=1e-4, msg=name)


def test_two_processes_log_the_loss_of_the_whole_batch(together: Path, alone: Path) -> None:
    one, two = (
        [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        for run in (alone, together / "caption")
    )
    for key in ("loss", "grad_norm", "learning_rate", "validation_cider"):
        expected = [line[key] for line in one if key in line]
        assert expected
        assert [line[key] for line in two if key in line] == pytest.approx(expected, rel=1e-4), key


@pytest.mark.parametrize("batch_size, accumulated", [(4, 1), (2, 2)])
def test_two_processes_train_self_critically_as_one(
    toy: Toy, together: Path, tmp_path: Path, batch_size: int, accumulated: int
) -> None:
    config = run_config(toy, tmp_path / "scst", "scst", batch_size, gradient_accumulation_steps=accumulated)
    alone = train(config, console=Console(quiet=True))
    start = load_file(together / "checkpoint" / "model.safetensors")
    one, two = (load_file(run / "model.safetensors") for run in (alone, together / "scst"))
    assert max(float((one[name] - start[name]).abs().max()) for name in start) > 1e-3
    for name in one:
        if not name.endswith("key.bias"):
            torch.testing.assert_close(two[name], one[name], atol=1e-4, rtol=1e-4, msg=name)
    logs = [
        [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        for run in (alone, together / "scst")
    ]
    for key in ("loss", "grad_norm", "reward", "greedy_reward", "unended_share", "validation_cider"):
        expected = [line[key] for line in logs[0] if key in line]
        assert expected
        assert [line[key] for line in logs[1] if key in line] == pytest.approx(expected, rel=1e-3, abs=1e-5), key


def test_two_processes_tell_the_data_set_its_epoch(together: Path) -> None:
    # Two steps of two clips by two processes are all eight clips.
    assert [report["epochs"] for report in reports(together)] == [[0, 1]] * 2


def test_one_of_two_processes_looks_for_the_files(toy: Toy, together: Path) -> None:
    first, second = (report["looked_for"] for report in reports(together))
    # Two runs train and validate, and one is evaluated.
    assert first == [len(toy.clips(split)) for split in ("train", "validate", "train", "validate", "test")]
    assert second == []


def test_two_processes_caption_every_clip_once(toy: Toy, together: Path) -> None:
    first, second = (report["opened"] for report in reports(together))
    assert first and second
    assert sorted(first + second) == sorted(clip.clip_id for clip in toy.clips("test"))


def test_two_processes_score_all_captions(toy: Toy, together: Path) -> None:
    evaluation = together / "caption" / "evaluation" / "mini-test"
    result = EvaluationResult.load(evaluation / "result.json")
    assert set(read_predictions(evaluation / "predictions.json")) == {clip.clip_id for clip in toy.clips("test")}
    assert [report["scores"] for report in reports(together)] == [result.scores] * 2

"""Two real processes, on the CPU: what they train is what one would, and they share the captioning."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from toy_run import ROOT, Toy, environment

from evlvideo.config.loading import load_config, save_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.files import read_json
from evlvideo.results.prediction_files import read_predictions
from evlvideo.results.records import EvaluationResult
from evlvideo.results.validation_records import read_records
from evlvideo.training.run import train
from evlvideo.training.seeds import seed_of_step

DRAWS = 200
PROGRAM = """
import json, os, shutil, signal, sys
sys.path[:0] = [ROOT, ROOT + "/tests/helpers"]
from pathlib import Path
import torch
from accelerate import PartialState
from rich.console import Console
from transformers import TrainerCallback
import toy_run
from evlvideo.config.loading import load_config
from evlvideo.data.annotation import splits
from evlvideo.data.loading.caption_dataset import CaptionDataset
from evlvideo.data.loading.mixture import Mixture
from evlvideo.errors import Interrupted
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.metrics import java
from evlvideo.mini import build
from evlvideo.results.run_directory import SUMMARY_NAME
from evlvideo.training import run as run_module, stopping
from evlvideo.training.run import train
from evlvideo.training.seeds import seed_of_step
from evlvideo.training.trainer import CaptionTrainer

build.SPLITS = toy_run.SPLITS
java._java_on_path = java._java_of_package = lambda: None
directory = Path(sys.argv[1])
rank = int(os.environ["RANK"])
report = {}

def configured(name):
    return load_config(directory / f"{name}.yaml")

def write():
    report["processes"] = PartialState().num_processes
    (directory / f"report-{rank}.json").write_text(json.dumps(report))
"""
TRAINING = """
opened, epochs = [], []
original = CaptionDataset.__getitem__
def get(self, index):
    opened.append(self.clips[index % len(self.clips)].clip_id)
    return original(self, index)
CaptionDataset.__getitem__ = get
origin = Mixture.origin
def note(self, index):
    epochs.append(int(self._epoch))
    return origin(self, index)
Mixture.origin = note
looked_for = []
missing_files = splits.missing_files
splits.missing_files = lambda clips: looked_for.append(len(clips)) or missing_files(clips)
for name in RUNS:
    epochs.clear()
    train(configured(name), console=Console(quiet=True))
    report.setdefault("epochs", {})[name] = sorted(set(epochs))
opened.clear()
result = evaluate(directory / "caption")
report |= {"opened": list(opened), "scores": result.scores, "looked_for": list(looked_for)}
write()
"""
SIGNALLED = """

class SignalOne(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1 and args.process_index == 1:
            signal.raise_signal(signal.SIGTERM)

make, stopping.VOTE_SECONDS = run_module._make_trainer, 1.0
def make_signalled(*arguments):
    trainer = make(*arguments)
    trainer.add_callback(SignalOne())
    return trainer
run_module._make_trainer = make_signalled
try:
    train(configured("signalled"), console=Console(quiet=True))
except Interrupted as error:
    report["stopped"] = str(error)
write()
"""
RANDOM = """
starts = report["starts"] = {}
began = CaptionTrainer.train
def begin(self, *args, **kwargs):
    weights = [float(weight.double().sum()) for weight in self.captioner.parameters()]
    starts.setdefault(Path(self.args.output_dir).parent.name, {"weights": weights, "drawn": float(torch.rand(()))})
    return began(self, *args, **kwargs)
CaptionTrainer.train = begin
for name in ("caption", "scst"):
    config = configured(name)
    run = Path(train(config, console=Console(quiet=True)))
    if rank == 0:
        (run / SUMMARY_NAME).unlink()
        shutil.copytree(run / "checkpoints" / "checkpoint-2", directory / f"{name}-whole")
        shutil.rmtree(run / "checkpoints" / "checkpoint-2")
    PartialState().wait_for_everyone()
    train(config, resume=True, console=Console(quiet=True))
CaptionTrainer.train = began

trainer = toy_run.make_trainer(configured("draws"))
batch = trainer.data_collator([trainer.train_dataset[0]] * 2)
trainer.roll_out([batch])
report["tokens"] = batch["rollout"].tokens[:, :3].tolist()

trainer = toy_run.make_trainer(
    configured("unscored"), lambda captions, clips, ended: [None if rank else 1.0 / len(text) for text in captions]
)
trainer.evaluate = lambda *args, **kwargs: {"eval_cider": 0.0}
trainer.train()
report["lines"] = [line for line in trainer.state.log_history if "loss" in line]
write()
"""


def run_config(toy: Toy, directory: Path, stage: str, batch_size: int, accumulated: int = 1) -> RunConfig:
    """Steps of eight without dropout; of SCST two, to reach the second epoch."""
    return toy.config(
        directory,
        init=checkpoint_without_dropout(toy, directory.parent),
        run={"stage": stage},
        model={"fusion": "mean_tokens", "contextualizer": "merged"},
        training={
            "max_steps": 2,
            "eval_steps": 2,
            "warmup_steps": 0,
            "batch_size": batch_size,
            "gradient_accumulation_steps": accumulated,
        },
        generation={"batch_size": 2},
        # Captions of up to 25 tokens end at different places.
        scst={"baseline": "greedy", "max_new_tokens": 25},
    )


def checkpoint_without_dropout(toy: Toy, directory: Path) -> Path:
    copy = directory / "checkpoint"
    if not copy.exists():
        shutil.copytree(toy.checkpoint, copy)
        config = read_json(copy / "config.json")
        config["bert_config"].update(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        (copy / "config.json").write_text(json.dumps(config))
    return copy


def launch(processes: int, directory: Path, program: str, *, on_gpus: bool = False) -> None:
    file = directory / "program.py"
    file.write_text(f"ROOT = {str(ROOT)!r}\n{PROGRAM}{program}")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    done = subprocess.run(
        [*command, str(file), str(directory)],
        env=environment(ACCELERATE_USE_CPU=str(not on_gpus)),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]


def train_together(
    toy: Toy,
    directory: Path,
    processes: int,
    shares: dict[str, tuple[int, int]],
    *,
    then: str = "",
    on_gpus: bool = False,
) -> Path:
    """Train both stages on several processes, by name with their batch size and accumulation."""
    for name, (batch_size, accumulated) in shares.items():
        config = run_config(toy, directory / name, name.partition("-")[0], batch_size, accumulated)
        save_config(config, directory / f"{name}.yaml")
    launch(processes, directory, f"RUNS = {tuple(shares)!r}\n{TRAINING}{then}", on_gpus=on_gpus)
    return directory


@pytest.fixture(scope="module")
def together(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of runs that two processes made."""
    shares = {"caption": (4, 1), "caption-accumulated": (2, 2), "scst": (4, 1), "scst-accumulated": (2, 2)}
    directory = tmp_path_factory.mktemp("together")
    short = run_config(toy, directory / "signalled", "caption", batch_size=2)
    endless = replace(short, training=replace(short.training, max_steps=10_000, eval_steps=10_000))
    save_config(endless, directory / "signalled.yaml")
    return train_together(toy, directory, 2, shares, then=SIGNALLED)


@pytest.fixture(scope="module")
def alone(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The runs that one process made of each stage."""
    directory = tmp_path_factory.mktemp("alone")
    return {
        stage: train(run_config(toy, directory / stage, stage, 8), console=Console(quiet=True))
        for stage in ("caption", "scst")
    }


def reports(directory: Path) -> list[dict[str, Any]]:
    found = [read_json(directory / f"report-{place}.json") for place in range(2)]
    assert [report["processes"] for report in found] == [2, 2]
    return found


def assert_same_training(run: Path, alone: Path) -> None:
    """Weights are equal to 1e-4, a hundredth of a step, and so is what the log says of the steps."""
    start = load_file(alone.parent / "checkpoint" / "model.safetensors")
    one, two = (load_file(directory / "model.safetensors") for directory in (alone, run))
    assert max(float((one[name] - start[name]).abs().max()) for name in start) > 1e-3
    for name in one:
        # Keys' biases have no gradient but rounding, which Adam makes into steps; so it does, in small, wherever a
        # gradient is small.
        if not name.endswith("key.bias"):
            torch.testing.assert_close(two[name], one[name], atol=1e-4, rtol=1e-4, msg=name)
    logs = [
        [json.loads(line) for line in (directory / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        for directory in (alone, run)
    ]
    keys = {"loss", "grad_norm", "learning_rate", "validation_cider", "validation_loss", "validation_distinct"}
    keys |= {"validation_clips"} | {f"validation_prompt_{name}" for name in ("between", "within", "norm")}
    of_samples = {"reward", "reward_std", "greedy_reward", "sample_tokens", "unended_share", "entropy", "bad_endings"}
    for key in keys | (of_samples if "scst" in run.name else set()):
        expected = [line[key] for line in logs[0] if key in line]
        assert expected
        assert [line[key] for line in logs[1] if key in line] == pytest.approx(expected, rel=1e-3, abs=1e-5), key


@pytest.mark.parametrize("name", ["caption", "caption-accumulated", "scst", "scst-accumulated"])
def test_two_processes_train_as_one_on_the_same_clips(together: Path, alone: dict[str, Path], name: str) -> None:
    assert_same_training(together / name, alone[name.partition("-")[0]])


def test_two_processes_compare_modes_on_the_last_batches_of_both(together: Path, alone: dict[str, Path]) -> None:
    found, expected = (
        [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()][-2]
        for run in (together / "caption", alone["caption"])
    )
    for key in ("batch_loss", "batch_loss_eval_mode"):
        assert found[key] == pytest.approx(expected[key], rel=1e-4)
    assert read_records(together / "caption") == read_records(alone["caption"])


@pytest.mark.needs_cuda
def test_two_gpus_train_as_one_on_the_same_clips(toy: Toy, tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    (tmp_path / "two").mkdir()
    two = train_together(toy, tmp_path / "two", 2, {"caption": (4, 1), "scst": (4, 1)}, on_gpus=True)
    reports(two)
    one = train(run_config(toy, tmp_path / "caption", "caption", 8), console=Console(quiet=True))
    logs = [
        map(json.loads, (run / "log.jsonl").read_text(encoding="utf-8").splitlines()) for run in (one, two / "caption")
    ]
    losses = [[line["loss"] for line in log if "loss" in line] for log in logs]
    assert len(losses[0]) == 2
    # In bf16, and not bit for bit: a GPU adds up merged tokens in any order.
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("stage", ["caption", "scst"])
def test_accumulated_batches_train_as_one(toy: Toy, alone: dict[str, Path], tmp_path: Path, stage: str) -> None:
    config = run_config(toy, tmp_path / stage, stage, batch_size=4, accumulated=2)
    assert_same_training(train(config, console=Console(quiet=True)), alone[stage])


@pytest.mark.slow
def test_four_processes_train_as_one(toy: Toy, alone: dict[str, Path], tmp_path: Path) -> None:
    shares = {"caption": (2, 1), "scst": (2, 1), "scst-accumulated": (1, 2)}
    train_together(toy, tmp_path, 4, shares)
    for name in shares:
        assert_same_training(tmp_path / name, alone[name.partition("-")[0]])


def test_a_signal_to_one_process_stops_both_in_the_same_step(together: Path) -> None:
    first, second = (report["stopped"] for report in reports(together))
    assert first == second
    (checkpoint,) = (together / "signalled" / "checkpoints").iterdir()
    step = int(checkpoint.name.rpartition("-")[2])
    assert first.startswith(f"Stopped at step {step} of 10000, with a checkpoint in")
    assert step >= 2 and (checkpoint / "trainer_state.json").is_file()


def test_one_process_goes_on_from_a_checkpoint_of_two_only_with_as_many_clips_a_step(
    toy: Toy, together: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It has no random state of its own there, and does not repeat that of the run's start."""
    run = shutil.copytree(together / "signalled", tmp_path / "run")
    step = int(next((run / "checkpoints").iterdir()).name.rpartition("-")[2])
    before = (run / "config.yaml").read_bytes()
    config = replace(load_config(run / "config.yaml"), output_dir=str(run))
    config.training.max_steps = config.training.eval_steps = step + 1
    with pytest.raises(UserError, match=r"× processes=2 \(it was 4\)"):
        train(config, resume=True, console=Console(quiet=True))
    assert (run / "config.yaml").read_bytes() == before
    config.training.batch_size = 4
    train(config, resume=True, console=Console(quiet=True))
    assert "was trained by 2 processes and resumes with 1: dropout continues with other random numbers" in caplog.text
    assert read_json(run / "training.json")["changes"][0]["changed"]["training.batch_size"] == [2, 4]
    # The last step had no dropout, so the state is that of its seed.
    states = torch.load(run / "checkpoints" / f"checkpoint-{step + 1}" / "rng_state.pth", weights_only=False)
    torch.manual_seed(seed_of_step(config.seed, step))
    assert torch.equal(states["cpu"], torch.get_rng_state())


def test_two_processes_tell_the_data_set_its_epoch(together: Path) -> None:
    # A step of SCST is all eight clips.
    assert [report["epochs"]["scst"] for report in reports(together)] == [[0, 1]] * 2


def test_one_of_two_processes_looks_for_the_files(toy: Toy, together: Path) -> None:
    first, second = (report["looked_for"] for report in reports(together))
    # Every run trains and validates, and one is evaluated.
    splits = ("train", "validate") * (len(first) // 2)
    assert first == [len(toy.clips(split)) for split in (*splits, "test")]
    assert len(first) > 4
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


@pytest.fixture(scope="module")
def random_runs(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of runs with dropout and sampling that two processes made, and resumed at their last step."""
    directory = tmp_path_factory.mktemp("random")
    steps = {"max_steps": 2, "eval_steps": 1, "batch_size": 2}
    new = {"contextualizer": "merged", "fusion": "mean_tokens"}
    configs = {
        "caption": toy.config(directory / "caption", model=new, training=steps),
        "scst": toy.config(directory / "scst", run={"stage": "scst"}, model=new, training=steps),
        "draws": toy.config(directory / "draws", run={"stage": "scst"}, scst={"num_samples": DRAWS}),
        "unscored": toy.config(
            directory / "unscored",
            run={"stage": "scst"},
            training={"max_steps": 1, "batch_size": 2, "warmup_steps": 0},
            scst={"num_samples": 1, "baseline": "greedy"},
        ),
    }
    for name, config in configs.items():
        save_config(config, directory / f"{name}.yaml")
    launch(2, directory, RANDOM)
    return directory


@pytest.mark.parametrize("stage", ["caption", "scst"])
def test_processes_start_from_equal_weights_and_draw_from_streams_of_their_own(random_runs: Path, stage: str) -> None:
    first, second = (report["starts"][stage] for report in reports(random_runs))
    assert first["weights"] == second["weights"]
    assert first["drawn"] != second["drawn"]


@pytest.mark.parametrize("stage", ["caption", "scst"])
def test_two_processes_resume_bit_for_bit(random_runs: Path, stage: str) -> None:
    whole, resumed = random_runs / f"{stage}-whole", random_runs / stage / "checkpoints" / "checkpoint-2"
    one, two = (load_file(directory / "model.safetensors") for directory in (whole, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)
    for process in range(2):
        states = [
            torch.load(directory / f"rng_state_{process}.pth", weights_only=False)["cpu"]
            for directory in (whole, resumed)
        ]
        assert torch.equal(*states)


def test_draws_of_two_processes_for_one_clip_agree_no_more_than_those_of_one(random_runs: Path) -> None:
    first, second = (torch.tensor(report["tokens"]).unflatten(0, (2, -1)) for report in reports(random_runs))

    def agreement(one: torch.Tensor, other: torch.Tensor) -> float:
        return float((one == other).all(dim=-1).float().mean())

    by_chance = (agreement(first[0], first[1]) + agreement(second[0], second[1])) / 2
    assert by_chance < 0.5
    for one in first:
        for other in second:
            assert agreement(one, other) < by_chance + 5 * (0.25 / DRAWS) ** 0.5


def test_a_process_whose_captions_cannot_be_scored_trains_on_with_the_other(random_runs: Path) -> None:
    first, second = (report["lines"] for report in reports(random_runs))
    (line,) = first
    # Two clips of one sample each on the second process.
    assert line["unscored_samples"] == 2
    assert line["reward"] > 0
    assert [{**line, "training_seconds": 0} for line in first] == [{**line, "training_seconds": 0} for line in second]

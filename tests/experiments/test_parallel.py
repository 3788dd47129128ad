"""Trainings in processes of their own, as a demo has them."""

import os
import signal
import threading
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from toy_run import Toy, train_toy
from toy_run import start as start_program

from evlvideo.config.loading import save_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import Interrupted, UserError
from evlvideo.experiments.parallel import parallel_trainings
from evlvideo.training.resuming.checkpoints import newest_checkpoint


def start_endless(toy: Toy, directory: Path) -> RunConfig:
    return toy.config(directory, training={"max_steps": 10_000, "eval_steps": 10_000})


def wait_for_steps(run: Path) -> None:
    deadline = time.monotonic() + 120
    while not (run / "log.jsonl").is_file() or not (run / "log.jsonl").stat().st_size:
        assert time.monotonic() < deadline, "the training does not begin"
        time.sleep(0.2)


def test_what_is_trained_in_parallel_is_what_is_trained_alone(toy: Toy, tmp_path: Path) -> None:
    short = {"max_steps": 2, "eval_steps": 2}
    with parallel_trainings(2, train_toy) as start:
        runs = [start(toy.config(tmp_path / name, training=short)) for name in ("one", "two")]
        weights = [load_file(run.result() / "model.safetensors") for run in runs]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = load_file(train_toy(toy.config(tmp_path / "alone", training=short)) / "model.safetensors")
    torch.set_num_threads(threads)
    for found in weights:
        assert found.keys() == alone.keys()
        assert all(torch.equal(found[name], alone[name]) for name in alone)


def test_an_error_of_one_stops_the_others_in_order(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such"), parallel_trainings(2, train_toy) as start:
        start(start_endless(toy, tmp_path / "endless"))
        wait_for_steps(tmp_path / "endless")
        raise UserError("There is no such thing.")
    assert newest_checkpoint(tmp_path / "endless" / "checkpoints") is not None


def test_a_signal_to_end_stops_all_in_order(toy: Toy, tmp_path: Path) -> None:
    def send() -> None:
        wait_for_steps(tmp_path / "endless")
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted), parallel_trainings(1, train_toy) as start:
        run: Future[Path] = start(start_endless(toy, tmp_path / "endless"))
        threading.Thread(target=send).start()
        run.result()
    assert newest_checkpoint(tmp_path / "endless" / "checkpoints") is not None
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


KILLED = """
from evlvideo.experiments.parallel import parallel_trainings
from evlvideo.config.loading import load_config
if __name__ == "__main__":
    with parallel_trainings(1, toy_run.train_toy) as begin:
        begin(load_config("config.yaml")).result()
"""


def test_trainings_end_with_a_killed_parent(toy: Toy, tmp_path: Path) -> None:
    save_config(start_endless(toy, tmp_path / "endless"), tmp_path / "config.yaml")
    parent = start_program(setup=KILLED, cwd=tmp_path)
    wait_for_steps(tmp_path / "endless")
    parent.kill()
    parent.communicate(timeout=60)  # until no process has its output
    log = (tmp_path / "endless" / "log.jsonl").read_bytes()
    time.sleep(1)
    assert (tmp_path / "endless" / "log.jsonl").read_bytes() == log


def end_of_memory(config: RunConfig) -> Path:
    os.kill(os.getpid(), signal.SIGKILL)
    return Path(config.output_dir)


def test_a_process_that_the_system_ends_is_no_traceback(toy: Toy, tmp_path: Path) -> None:
    wanted = pytest.raises(UserError, match="may not be enough memory for 1 at a time")
    with wanted as told, parallel_trainings(1, end_of_memory) as start:
        start(toy.config(tmp_path / "run")).result()
    assert isinstance(told.value.__cause__, BrokenProcessPool)

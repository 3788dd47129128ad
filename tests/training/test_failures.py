"""How a run ends when something fails: at once, with a status, and with a sentence where that is possible."""

import subprocess
from pathlib import Path

import pytest
from toy_run import Toy, start

from evlvideo.config.loading import save_config
from evlvideo.training.resuming.checkpoints import newest_checkpoint

REWARD = """
def broken(captions, references, clip_ids):
    raise ZeroDivisionError("There is nothing to divide.")
"""


LIBRARY = """
from evlvideo.config.loading import load_config
from evlvideo.training.run import train
def run():
    toy_run.build.SPLITS = toy_run.SPLITS
    train(load_config(sys.argv[1]))
toy_run.run = run
"""


def finish(process: subprocess.Popen[str], limit_seconds: float = 90) -> tuple[int, str]:
    """The status and what was printed; fails if the process does not end."""
    try:
        output, errors = process.communicate(timeout=limit_seconds)
    finally:
        process.kill()
    return process.returncode, output + errors


@pytest.fixture(scope="module")
def broken(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the config of a run whose own reward fails, while a worker waits to load more data."""
    directory = tmp_path_factory.mktemp("broken")
    (directory / "mine.py").write_text(REWARD)
    scst = {"run": {"stage": "scst"}, "scst": {"reward": "mine:broken"}, "data": {"num_workers": 1}}
    save_config(toy.config(directory / "run", **scst), directory / "config.yaml")
    return directory


def test_an_error_that_nobody_foresaw_ends_the_process(broken: Path) -> None:
    status, printed = finish(start("train", "config.yaml", setup="sys.path.insert(0, '')", cwd=broken))
    assert status == 1
    assert printed.rstrip().endswith("ZeroDivisionError: There is nothing to divide.")


def test_it_also_ends_a_program_that_calls_the_library(broken: Path) -> None:
    status, printed = finish(start("config.yaml", setup=f"sys.path.insert(0, '')\n{LIBRARY}", cwd=broken))
    assert status == 1
    assert "ZeroDivisionError: There is nothing to divide." in printed


FULL = """
import resource
from evlvideo.training.callbacks import RunFiles
original = RunFiles.on_save
def on_save(*args, **kwargs):
    original(*args, **kwargs)
    # Too little for an optimizer's state.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
RunFiles.on_save = on_save
"""


def test_a_full_disk_is_a_sentence_and_leaves_the_newest_checkpoint(toy: Toy, tmp_path: Path) -> None:
    """Files may not grow further once the first checkpoint is written."""
    save_config(toy.config(tmp_path / "run"), tmp_path / "config.yaml")
    status, printed = finish(start("train", "config.yaml", setup=FULL, cwd=tmp_path))
    assert status == 2
    assert "Traceback" not in printed
    assert f"error: {tmp_path}/run/checkpoints/checkpoint-4 cannot be written: " in printed
    assert "--resume" in printed
    assert newest_checkpoint(tmp_path / "run" / "checkpoints") == tmp_path / "run" / "checkpoints" / "checkpoint-2"
    assert not (tmp_path / "run" / "checkpoints" / "checkpoint-4").exists()


def test_a_removed_working_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    setup = "import os; os.rmdir(os.getcwd())"
    status, printed = finish(start("train", "config.yaml", setup=setup, cwd=tmp_path / "gone"))
    assert status == 2
    assert printed.startswith("error: The working directory cannot be read: No such file or directory")

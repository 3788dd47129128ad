"""Texts of errors."""

import logging
from io import StringIO

import pytest
from rich.console import Console

from evlvideo import terminal
from evlvideo.cli import app
from evlvideo.errors import UserError, first_line, printable


@pytest.mark.parametrize(
    "text, shown",
    [
        ("\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"),
        ("a\rb\x07\x9b1m", "a\\rb\\x07\\x9b1m"),
        ("two\nlines\tand ä 字 😀", "two\nlines\tand ä 字 😀"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_first_lines() -> None:
    assert first_line(ValueError("\none thing:\nand another")) == "one thing"
    assert first_line(KeyError()) == "KeyError"


def test_names_in_errors_do_not_command_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise UserError("no place for \x1b]0;title\x07weight")

    monkeypatch.setattr(app, "app", refuse)
    with pytest.raises(SystemExit):
        app.main()
    assert capsys.readouterr().err == "error: no place for \\x1b]0;title\\x07weight\n"


@pytest.mark.usefixtures("restore_logging")
def test_names_in_the_log_do_not_command_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = StringIO()
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    console = terminal.prepare()
    assert isinstance(console, Console)
    console.file = shown
    logging.getLogger("evlvideo").warning("clip %s", "\x1b[2Jvideo1")
    assert "\x1b" not in shown.getvalue() and "\\x1b[2Jvideo1" in shown.getvalue()

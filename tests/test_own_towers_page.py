"""The commands of docs/own_towers.md can be given as they stand."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from evlvideo.cli.app import app
from evlvideo.config.loading import load_config
from evlvideo.errors import UserError

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "own_towers.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (evlvideo .+)$", PAGE, re.MULTILINE)
CHANGES = re.findall(r"`((?:[a-z_.]+=[^`\s]+ ?)+)`", PAGE)
RUNS = {load_config(path).output_dir for path in (ROOT / "configs" / "small").glob("*.yaml")}


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_there_are_commands_and_changes() -> None:
    assert len(COMMANDS) > 10 and len(CHANGES) > 5


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_has_its_options_and_its_config_loads(line: str) -> None:
    command, words = typer.main.get_command(app), shlex.split(line)[1:]
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    given = command.make_context(str(command.name), words).params
    if isinstance(given.get("config"), Path):
        load_config(given["config"], given["overrides"])
    for run in re.findall(r"runs/[\w-]+", line):
        assert run in RUNS


@pytest.mark.parametrize("changes", CHANGES)
def test_changes_in_the_text_are_keys_and_values_of_a_run(changes: str) -> None:
    problems = []
    for name in ("flickr30k", "own"):
        try:
            load_config(f"configs/small/{name}.yaml", shlex.split(changes))
        except UserError as error:
            problems.append(str(error))
    assert len(problems) < 2, problems  # such as connector_init, which a run from a checkpoint refuses

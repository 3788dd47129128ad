"""The README and the pages in docs hold together: their links, anchors, commands and configs."""

import re
import shlex
import subprocess
import sys
import unicodedata
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
import typer

from evlvideo.cli.app import app
from evlvideo.config.loading import load_config, load_config_of
from evlvideo.config.recipes.recipe import is_recipe, load_recipe
from evlvideo.config.vlp import ClassifierConfig, VlpConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
BLOCKS = [
    (page, found.strip())
    for page, text in TEXTS.items()
    for found in re.findall(
        r"^    (?:\w+=\S+ )*((?:(?:accelerate launch|torchrun) .*-m )?evlvideo .+)$", text, re.MULTILINE
    )
]
LOADERS = {
    "pretrain": partial(load_config_of, VlpConfig),
    "classify": partial(load_config_of, ClassifierConfig),
}
MENTIONED = [(page, found) for page, text in TEXTS.items() for found in re.findall(r"`(evlvideo [a-z][^`]*)`", text)]


def prose(text: str) -> str:
    """A page without its code."""
    return re.sub(r"^(    .*|`{3,}.*?^`{3,})$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """Anchors of the headings that a forge and the site agree on."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"[^\w\s-]", "", unicodedata.normalize("NFKD", heading)).strip().lower()
        forge, site = re.sub(r"\s", "-", plain), re.sub(r"[-\s]+", "-", plain)
        found |= {forge} & {site}
    return found


def subcommand(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that a line names, and its arguments."""
    command = typer.main.get_command(app)
    while isinstance(command, click.Group) or hasattr(command, "commands"):
        assert words and words[0] in command.commands, f"there is no command {' '.join(words[:1])}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", TEXTS)
def test_links_and_anchors_lead_somewhere(page: str) -> None:
    astray = []
    for link, anchor in re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)#?([^)\s]*)\)", TEXTS[page]):
        target = (ROOT / page).parent / link if link else ROOT / page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            astray.append(f"{link}#{anchor}")
    assert astray == []


def test_pages_print_commands() -> None:
    assert len(BLOCKS) > 80 and len(MENTIONED) > 10


@pytest.mark.parametrize(("page", "line"), BLOCKS, ids=lambda value: value)
def test_a_printed_command_has_its_options_and_its_config_loads(
    page: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(line, comments=True)
    command, words = subcommand(words[words.index("evlvideo") + 1 :])
    given = command.make_context(str(command.name), [word for word in words if word != "…"]).params
    if isinstance(given.get("config"), Path) and given["config"].name != "CONFIG":
        load = LOADERS.get(str(command.name), load_recipe if is_recipe(given["config"]) else load_config)
        load(given["config"], given.get("overrides"))


@pytest.mark.parametrize(("page", "line"), MENTIONED, ids=lambda value: value)
def test_a_mentioned_command_has_its_options(page: str, line: str) -> None:
    command, words = subcommand(shlex.split(line)[1:])
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.skipif(find_spec("zensical") is None, reason="needs the extra docs")
def test_the_site_is_built_strictly_and_loads_nothing_from_elsewhere() -> None:
    built = subprocess.run([sys.executable, "scripts/build_docs.py"], cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    for page in (ROOT / "build" / "site").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^\s>]*", text) == [], page

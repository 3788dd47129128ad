"""Build the documentation as a site in build/site: `make docs`, or this with the extra `docs` installed.

docs/*.md is plain Markdown that links to files anywhere in the repository, but a site has only one folder. So the pages
are gathered in build/docs with all that they link to: Markdown and pictures as they are, folders as lists, source files
and configs as pages that show them. A link or an anchor that leads nowhere fails the build.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "build" / "docs"
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)#\s]+)")
LANGUAGES = {".yaml": "yaml", ".py": "python", ".toml": "toml", "": "text"}
"""Suffixes of files that become pages, and the language of their code."""


def main() -> None:
    """Gather the pages and build the site, strictly."""
    shutil.rmtree(PAGES, ignore_errors=True)
    done: set[Path] = set()
    waiting = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    while waiting:
        path = waiting.pop()
        if path not in done:
            done.add(path)
            write_page(path)
            waiting += [target for _, target in links_of(path)]
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", "zensical.toml"]
    sys.exit(subprocess.run(command, cwd=ROOT).returncode)


def write_page(path: Path) -> None:
    """Write a file or folder of the repository where the site expects it."""
    page = PAGES / place_of(path)
    page.parent.mkdir(parents=True, exist_ok=True)
    text = text_of(path)
    if text is None:
        shutil.copyfile(path, page)
        return
    places = {link: os.path.relpath(PAGES / place_of(target), page.parent) for link, target in links_of(path)}
    text = LINK.sub(lambda found: places[found[1]], text) if places else text
    page.write_text(text, encoding="utf-8")


def place_of(path: Path) -> Path:
    """Return the place of a file or folder in the folder of pages."""
    inside = path.relative_to(ROOT)
    if path.is_dir():
        return inside / "index.md"
    if path.name == "README.md":
        return inside.with_name("index.md")
    if inside.parts[0] == "docs":
        return inside.relative_to("docs")
    return inside.with_name(f"{path.name}.md") if path.suffix in LANGUAGES else inside


def links_of(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield each link of a page, and the file or folder that it leads to."""
    if path.suffix != ".md" and not path.is_dir():
        return
    for link in LINK.findall(text_of(path) or ""):
        target = ((path if path.is_dir() else path.parent) / link).resolve()
        if not target.is_relative_to(ROOT) or not target.exists():
            sys.exit(f"{path.relative_to(ROOT)} links to {link}, which is not there.")
        readme = target / "README.md"
        yield link, readme if readme.is_file() else target


def text_of(path: Path) -> str | None:
    """Return the Markdown of a page; `None` for a file to copy, such as a picture."""
    title = f"# {path.relative_to(ROOT)}\n\n"
    if path.is_dir():
        entries = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith((".", "_")))
        return title + "".join(f"- [{name}]({name})\n" for name in entries)
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    if path.suffix not in LANGUAGES:
        return None
    return f"{title}````{LANGUAGES[path.suffix]}\n{path.read_text(encoding='utf-8')}````\n"


if __name__ == "__main__":
    main()

"""Facts about the repository as a whole: what it imports, when, and that its documents hold together."""

import ast
import importlib
import importlib.metadata
import itertools
import pkgutil
import re
import subprocess
import sys
import time
import tomllib
from collections import Counter
from pathlib import Path

import pytest

import evlvideo
from evlvideo.config.run import RunConfig
from evlvideo.config.vlp import ClassifierConfig, VlpConfig

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "evlvideo").rglob("*.py"))
MODULES = [
    module.name
    for module in pkgutil.walk_packages(evlvideo.__path__, "evlvideo.")
    if not module.name.endswith("__main__")  # importing it runs the command line
]
DOCUMENTS = [
    path for path in sorted(ROOT.rglob("*.md")) if not path.relative_to(ROOT).parts[0].startswith((".", "build"))
]
HOSTS = {"evlvideo.harness.model": "lmms_eval"}
"""Modules for a program that imports us → its package, which is no dependency."""
HEAVY = (
    "torch",
    "torchvision",
    "transformers",
    "timm",
    "accelerate",
    "decord",
    "av",
    "matplotlib",
    "pyarrow",
    "pycocoevalcap",
    "gradio",
)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports(module: str) -> None:
    if module in HOSTS:
        pytest.importorskip(HOSTS[module])
    importlib.import_module(module)


@pytest.mark.parametrize("module", ["evlvideo", "evlvideo.cli.app", "evlvideo.config.run"])
def test_importing_is_light(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_help_is_shown_within_half_a_second() -> None:
    """The best of up to ten runs counts, so that a busy machine does not fail it."""
    best_seconds = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        shown = subprocess.run(
            [sys.executable, "-m", "evlvideo", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        best_seconds = min(best_seconds, time.perf_counter() - start)
        if best_seconds < 0.5:
            break
    assert "Usage" in shown.stdout
    assert best_seconds < 0.5


def test_files_of_tests_have_names_of_their_own() -> None:
    # pytest imports one of two files of a name, and stops at the other.
    counts = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in counts.items() if count > 1] == []


def test_the_package_does_not_print() -> None:
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert calls == []


def test_every_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    requirements = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    declared = {canonical(re.split(r"[^\w.-]", line)[0]) for line in requirements}
    distributions = importlib.metadata.packages_distributions()
    undeclared = {
        f"{name} in {path.relative_to(ROOT)}"
        for path in SOURCES
        for name in imported_packages(path) - set(sys.stdlib_module_names) - {"evlvideo", *HOSTS.values()}
        if not declared & {canonical(distribution) for distribution in distributions.get(name, [name])}
    }
    assert undeclared == set()


def canonical(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def imported_packages(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    named = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in plain | named}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", document.read_text(encoding="utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_configs_named_in_documents_exist(document: Path) -> None:
    named = re.findall(r"\bconfigs/[\w./-]+\.yaml", document.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_paper_map_names_functions_and_keys_that_exist() -> None:
    text = (ROOT / "docs/paper_map.md").read_text(encoding="utf-8")
    sections = "|".join(
        [
            "model",
            "generation",
            "scst",
            "answering",
            "contrastive",
            "losses",
            "representation",
            *(path.name for path in (ROOT / "evlvideo").iterdir() if path.is_dir()),
        ]
    )
    named = set(re.findall(rf"`((?:{sections})(?:\.\w+)+)", text)) - {"config.json"}
    assert len(named) > 50
    assert sorted(name for name in named if not is_config_key(name) and not is_object(name)) == []


def is_config_key(name: str) -> bool:
    section, _, key = name.partition(".")
    return any(hasattr(getattr(kind(), section, None), key) for kind in (RunConfig, VlpConfig, ClassifierConfig))


def is_object(name: str) -> bool:
    module, attributes = f"evlvideo.{name}", []
    while module not in MODULES and "." in module:
        module, _, attribute = module.rpartition(".")
        attributes.insert(0, attribute)
    found = importlib.import_module(module)
    for attribute in attributes:
        found = getattr(found, attribute, None)
    return found is not None

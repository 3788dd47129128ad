"""The floors of the package: imports lead down, never up and never round in a circle.

All imports count, also those inside functions and those for types alone.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "evlvideo"
FLOORS = (
    ("errors", "files", "cache", "threads", "processes", "progress", "terminal", "yaml_values"),
    ("metrics",),
    ("mini",),
    ("data.annotation",),
    ("data.media",),
    ("data.video",),
    ("data.verify",),
    ("data.loading",),
    ("models.precision", "models.gradient_checkpointing"),
    ("models.tokens",),
    ("models.connectors",),
    ("models",),
    ("models.published",),
    ("config",),
    ("results",),
    ("assembly",),
    ("inference",),
    ("corpus",),
    ("estimate",),
    ("training",),
    ("training.scst",),
    ("training.run",),
    ("evaluation", "inspection"),
    ("comparison.rows",),
    ("comparison.tables",),
    ("comparison.page",),
    ("comparison",),
    ("experiments",),
    ("app", "harness"),
    ("cli",),
    ("__main__",),
)
"""From the lowest to the highest. A module belongs to the floor of the longest name that it begins with."""
MOST_MODULES = 13


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


# Those of `__init__` of the package are public names, which are imported when they are first used.
MODULES = {
    module_of(path): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path not in (PACKAGE / "__init__.py", PACKAGE / "data" / "__init__.py")
}
FOLDERS = [path for path in sorted(PACKAGE.rglob("*")) if path.is_dir() and any(path.glob("*.py"))]


def floor_of(module: str) -> int:
    floors = {name: floor for floor, names in enumerate(FLOORS) for name in names}
    above = [name for name in floors if f"{module}.".startswith(f"{name}.")]
    assert above, f"{module} is on no floor; give it one"
    return floors[max(above, key=len)]


def imports_of(module: str) -> Iterator[str]:
    """The modules of the package that a module imports."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} imports by a relative path"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield from within(full if full.removeprefix("evlvideo.") in MODULES else str(node.module))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from within(alias.name)


def within(name: str) -> Iterator[str]:
    module = name.removeprefix("evlvideo.")
    if name.startswith("evlvideo.") and module in MODULES:
        yield module


IMPORTS = {module: sorted(set(imports_of(module)) - {module}) for module in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_imports_lead_down(module: str) -> None:
    assert [found for found in IMPORTS[module] if floor_of(found) > floor_of(module)] == []


def test_imports_lead_in_no_circle() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(PACKAGE.parent)))
def test_a_folder_says_what_lives_there(folder: Path) -> None:
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(PACKAGE.parent)))
def test_a_folder_holds_about_a_dozen_modules(folder: Path) -> None:
    modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= MOST_MODULES, modules

"""The page of benchmarks is what its files say."""

import sys
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import make_benchmark_tables  # noqa: E402


def test_the_page_is_made_of_the_files() -> None:
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == make_benchmark_tables.page()


def test_every_file_has_a_section() -> None:
    files = {path.stem for path in (ROOT / "docs" / "benchmarks").glob("*.json")}
    patterns = make_benchmark_tables.SECTIONS
    assert [name for name in files if not any(fnmatch(name, pattern) for pattern in patterns)] == []
    assert {pattern for pattern in patterns if "*" not in pattern} <= files

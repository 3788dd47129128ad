"""The page of benchmarks is what its files say."""

import sys
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import make_benchmark_tables  # noqa: E402
from benchmark_page import self_critical, speed  # noqa: E402


def test_the_page_is_made_of_the_files() -> None:
    assert (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8") == make_benchmark_tables.page()


def test_every_file_has_a_section() -> None:
    files = {path.stem for path in (ROOT / "docs" / "benchmarks").glob("*.json")}
    patterns = make_benchmark_tables.SECTIONS
    assert [name for name in files if not any(fnmatch(name, pattern) for pattern in patterns)] == []


def test_every_section_has_a_script() -> None:
    scripts = {path.stem for path in (ROOT / "scripts" / "benchmarks").glob("*.py")}
    assert {pattern.removesuffix("-*") for pattern in make_benchmark_tables.SECTIONS} <= scripts


def test_sections_of_files_that_are_not_shipped_are_written() -> None:
    """Of the smallest reports that the scripts write."""
    both = {"wall": 2.0, "cpu": 1.0}
    threads = {
        "machine": {"cores": 2, "load": [0.5, 0.4, 0.3]},
        "steps": 40,
        "threads": 2,
        "beside": {"nothing": {"median": {"active": both, "passive": both}, "active_over_passive": both}},
    }
    assert "| nothing | 2.0 | 1.0 | 2.0 | 1.0 | 2.00 | 1.00 |" in speed.threads(threads)
    step = {"kept_bytes": 2**30, "seconds": 1.5, "cpu_seconds": 1.25}
    steps = {dtype: {"plain": step, "checkpointed": step} for dtype in ("fp32", "bf16")}
    checkpointing = {
        "machine": "x86_64",
        "threads": 1,
        "clips": 1,
        "frames": 4,
        "steps": steps,
        "tower": {"fp32": step, "bf16": step},
    }
    assert "| bf16, plain | 1,024 | 1.50 | 1.25 |" in speed.checkpointing(checkpointing)
    keys = ("peak_bytes", "bytes_kept", "seconds", "cpu_seconds")
    run = {key: {"median": 2**20 if "bytes" in key else 0.5} for key in keys}
    loss = {
        "machine": {"threads": 1},
        "rows": 20,
        "tokens": 20,
        "vocabulary": 50_272,
        "bytes of the logits": 2**20,
        "runs": {"policy": {"by rows": run}},
    }
    assert "| policy | by rows | 1 | 1 | 0.50 | 0.50 |" in self_critical.scst_loss(loss)

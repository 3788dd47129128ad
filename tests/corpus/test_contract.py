"""The contract names tests that exist."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_every_test_that_the_contract_names_exists() -> None:
    text = (TESTS.parent / "docs/captioning_contract.md").read_text(encoding="utf-8")
    files = {*(TESTS / "corpus").rglob("test_*.py"), TESTS / "inference/test_forbidden_words.py"}
    trees = {file.name: ast.parse(file.read_text(encoding="utf-8")) for file in files}
    held = {node.name for tree in trees.values() for node in tree.body if isinstance(node, ast.FunctionDef)}
    named = re.findall(r"\b(test_\w+)(?!\.py)\b", re.sub(r"test_\w+\.py", "", text))
    assert len(named) > 25
    assert [name for name in named if name not in held] == []
    assert {name for name in re.findall(r"\btest_\w+\.py", text) if name not in trees} == set()

"""Lists of statements: their forms, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from evlvideo.data.annotation.statements.lists import read_statements, with_images
from evlvideo.errors import UserError

VE = {"image": "a.jpg", "sentence": "a dog runs", "label": "neutral"}
PAIR = {"images": ["a.jpg", "b/c.jpg"], "sentence": "both run", "label": "True"}
SNLI_VE = {
    "Flickr30K_ID": "47",
    "pairID": "47.jpg#2r1n",
    "sentence1": "a dog",
    "sentence2": "a dog runs",
    "gold_label": "entailment",
}


def write(folder: Path, *entries: Any) -> Path:
    path = folder / "list.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    return path


def test_albefs_entailment_list(tmp_path: Path) -> None:
    path = write(tmp_path, VE, {**VE, "label": "contradiction"}, {**VE, "label": "entailment"})
    found = read_statements(path, tmp_path / "images", "entailment")
    assert [statement.label for statement in found] == [1, 0, 2]
    assert [statement.statement_id for statement in found] == ["0", "1", "2"]
    assert (found[0].images, found[0].text) == ((tmp_path / "images" / "a.jpg",), "a dog runs")


def test_albefs_pairs(tmp_path: Path) -> None:
    path = write(tmp_path, PAIR, {**PAIR, "label": "False"}, {**PAIR, "label": True})
    found = read_statements(path, tmp_path, "nlvr2")
    assert [statement.label for statement in found] == [1, 0, 1]
    assert found[0].images == (tmp_path / "a.jpg", tmp_path / "b" / "c.jpg")


def test_snli_ves_own_lines_without_those_that_annotators_disagreed_on(tmp_path: Path) -> None:
    lines = [SNLI_VE, {**SNLI_VE, "gold_label": "-", "pairID": "x"}]
    path = tmp_path / "snli_ve_dev.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    (found,) = read_statements(path, tmp_path, "entailment")
    assert (found.statement_id, found.text, found.label) == ("47.jpg#2r1n", "a dog runs", 2)
    assert found.images == (tmp_path / "47.jpg",)


def test_missing_images_are_told_and_their_statements_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    path = write(tmp_path, VE, {**VE, "image": "b.jpg"}, {**VE, "image": "b.jpg"})
    found, missing = with_images(read_statements(path, tmp_path, "entailment"))
    assert [statement.statement_id for statement in found] == ["0"]
    assert missing == [tmp_path / "b.jpg"]


@pytest.mark.parametrize(
    ("task", "entry", "message"),
    [
        ("entailment", {**VE, "label": "maybe"}, "label is 'maybe'; allowed: contradiction, neutral, entailment"),
        ("entailment", {**VE, "label": None}, "label is None; allowed"),
        ("entailment", {**VE, "label": ["neutral"]}, "label is .'neutral'.; allowed"),
        ("nlvr2", {**PAIR, "label": 1}, "label is 1; allowed: False, True"),
        ("entailment", {**VE, "image": "../a.jpg"}, "lies outside"),
        ("entailment", {**VE, "image": "/etc/passwd"}, "lies outside"),
        ("nlvr2", {**PAIR, "images": ["a.jpg", "../../b.jpg"]}, "lies outside"),
        ("nlvr2", {**PAIR, "images": ["a.jpg"]}, "list 2"),
        ("nlvr2", {**PAIR, "images": "a.jpg"}, "list 2"),
        ("nlvr2", VE, "is about 2 'images'"),
        ("entailment", PAIR, "is about one 'image'"),
        ("entailment", {**VE, "sentence": " "}, "the sentence is ' '"),
        ("entailment", {"image": "a.jpg", "label": "neutral"}, "has no 'sentence'"),
        ("entailment", {"image": "a.jpg", "sentence": "a"}, "has no 'label'"),
        ("entailment", "a.jpg", "must be an object"),
        ("entailment", {**VE, "id": ""}, "statement id is ''"),
    ],
)
def test_a_malformed_entry_is_named(task: str, entry: Any, message: str, tmp_path: Path) -> None:
    good = VE if task == "entailment" else PAIR
    with pytest.raises(UserError, match=f"entry 1.*{message}"):
        read_statements(write(tmp_path, good, entry), tmp_path, task)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.json", "[]", "has no statements"),
        ("list.json", "{}", "a list of entries is needed"),
        ("list.json", "[{", "is not a JSON file|line 1"),
        ("list.jsonl", "nothing\n", "line 1 is not JSON"),
        ("list.json", json.dumps([{**VE, "id": "a"}, {**VE, "id": "a"}]), "two statements of the id 'a'"),
    ],
)
def test_a_broken_list_is_named(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_statements(tmp_path / name, tmp_path, "entailment")


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no list of statements .*test\.json"):
        read_statements(tmp_path / "test.json", tmp_path, "entailment")

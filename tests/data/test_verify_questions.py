from pathlib import Path
from typing import Any

import pytest
from question_files import gqa_question, write_gqa, write_vqa, write_vqa_questions

from evlvideo.data.annotation.questions.facts import QUESTION_DATASETS
from evlvideo.data.verify import VerifyReport, verify

IMAGE = Path("val2014/COCO_val2014_000000000042.jpg")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(QUESTION_DATASETS["vqav2"].questions, "validate", (2,))
    write_vqa(tmp_path, "val2014", [5, 7])
    (tmp_path / IMAGE).parent.mkdir()
    (tmp_path / IMAGE).write_bytes(b"content")
    return tmp_path


def check(root: Path, dataset: str = "vqav2", **options: Any) -> VerifyReport:
    return verify(dataset, root, **options)


def test_a_complete_split_is_complete_without_the_others(root: Path) -> None:
    assert check(root).lines() == [
        f"vqav2 in {root}, files in {root}",
        "  validate: 2 of 2 questions, 20 answers (10 each); files: all there",
        "Complete.",
    ]


def test_missing_images_and_wrong_counts_are_listed(root: Path) -> None:
    (root / IMAGE).unlink()
    write_vqa_questions(root, "test2015", [1])
    problems = check(root).problems
    assert any("lists 1 questions of vqav2:test, which has 447793" in problem for problem in problems)
    assert any(f"1 files of vqav2:validate are not in {root}: {IMAGE}" in problem for problem in problems)


def test_the_reported_split_has_to_be_there(tmp_path: Path) -> None:
    write_gqa(tmp_path, {"1": gqa_question()}, "val")
    report = check(tmp_path, "gqa", check_counts=False)
    assert any("There is no testdev_balanced_questions.json" in problem for problem in report.problems)


def test_questions_of_another_split_are_a_problem(root: Path) -> None:
    write_vqa_questions(root, "val2014", [5, 7], data_subtype="train2014")
    assert any("take both files of one split" in problem for problem in check(root).problems)


def test_pictures_are_decoded_on_request(root: Path) -> None:
    (problem,) = check(root, decode=True).problems
    assert "1 files of vqav2:validate cannot be read" in problem


def test_no_questions_of_ones_own_point_to_the_card(tmp_path: Path) -> None:
    assert check(tmp_path, "jsonl_qa").problems == (
        f"There are no questions of any split in {tmp_path}; see datasets/jsonl_qa/README.md.",
    )

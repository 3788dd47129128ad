from pathlib import Path

import pytest
from question_files import gqa_question, vqa_annotation, write_gqa, write_vqa, write_vqa_annotations

from evlvideo.data.annotation.questions.facts import QUESTION_DATASETS
from evlvideo.data.annotation.questions.splits import read_questions
from evlvideo.errors import UserError


@pytest.mark.parametrize(
    ("dataset", "split", "count"),
    [("vqav2", "validate", "214354"), ("okvqa", "test", "5046"), ("gqa", "test_dev", "12578")],
)
def test_the_published_splits_are_counted(tmp_path: Path, dataset: str, split: str, count: str) -> None:
    write_vqa(tmp_path, "val2014", [5], prefix="v2_" if dataset == "vqav2" else "")
    write_gqa(tmp_path, {"1": gqa_question()})
    with pytest.raises(
        UserError, match=rf"lists 1 questions of {dataset}:{split}, which has {count}; get the official"
    ):
        read_questions(dataset, split, tmp_path)


def test_both_forms_of_pathvqa_have_their_counts() -> None:
    forms = QUESTION_DATASETS["pathvqa"].questions
    assert sum(published for published, _ in forms.values()) == 32_795
    assert sum(of_hub for _, of_hub in forms.values()) == 32_632


def test_every_question_of_vqa_has_ten_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(QUESTION_DATASETS["vqav2"].questions, "validate", (2,))
    write_vqa(tmp_path, "val2014", [5, 7])
    assert len(read_questions("vqav2", "validate", tmp_path, check_files=False)) == 2
    write_vqa_annotations(tmp_path, "val2014", [vqa_annotation(5), vqa_annotation(7, answers=[{"answer": "a"}])])
    with pytest.raises(UserError, match=r"does not have 10 answers to 7 of vqav2:validate; .*--no-check-counts"):
        read_questions("vqav2", "validate", tmp_path)


def test_a_split_holds_questions(tmp_path: Path) -> None:
    write_gqa(tmp_path, {})
    with pytest.raises(UserError, match="lists no questions of gqa:test_dev"):
        read_questions("gqa", "test_dev", tmp_path, check_counts=False)


def test_images_that_are_not_there_are_named_once(tmp_path: Path) -> None:
    write_vqa(tmp_path, "val2014", [5, 7])
    message = r"1 of 1 files that questions are about are not in .*: val2014/COCO_val2014_000000000042.jpg"
    with pytest.raises(UserError, match=message):
        read_questions("vqav2", "validate", tmp_path, check_counts=False)
    (tmp_path / "val2014").mkdir()
    (tmp_path / "val2014" / "COCO_val2014_000000000042.jpg").touch()
    assert len(read_questions("vqav2", "validate", tmp_path, check_counts=False)) == 2


def test_unknown_datasets_and_splits_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="The dataset of questions is 'vqa'; allowed: vqav2, okvqa, gqa"):
        read_questions("vqa", "test", tmp_path)
    with pytest.raises(UserError, match="'gqa' has no split 'test'; allowed: train, validate, test_dev"):
        read_questions("gqa", "test", tmp_path)

from pathlib import Path
from typing import Any

import pytest
from question_files import vqa_annotation, write_vqa, write_vqa_annotations, write_vqa_questions

from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions.splits import read_questions
from evlvideo.errors import UserError


def read(root: Path, dataset: str = "vqav2", split: str = "validate", **options: Any) -> list[Question]:
    return list(read_questions(dataset, split, root, **({"check_counts": False, "check_files": False} | options)))


def test_questions_get_their_annotations_in_the_order_of_the_questions(tmp_path: Path) -> None:
    write_vqa(tmp_path, "val2014", [5, 7])
    (tmp_path / "images").mkdir()
    first, second = read(tmp_path)
    file = tmp_path / "images" / "val2014" / "COCO_val2014_000000000042.jpg"
    answers = tuple(f"a{n}" for n in range(10))
    assert first == Question("5", "42", "What is 5?", file, answers, "other", "what is")
    assert second.question_id == "7"


def test_images_may_lie_beside_the_annotation(tmp_path: Path) -> None:
    write_vqa(tmp_path, "val2014", [5])
    assert read(tmp_path)[0].video == tmp_path / "val2014" / "COCO_val2014_000000000042.jpg"
    assert read(tmp_path, media_root=Path("coco"))[0].video == Path("coco/val2014/COCO_val2014_000000000042.jpg")


@pytest.mark.parametrize(("split", "part"), [("test", "test2015"), ("test_dev", "test-dev2015")])
def test_test_sets_have_no_answers_and_share_images(tmp_path: Path, split: str, part: str) -> None:
    write_vqa_questions(tmp_path, part, [5])
    (question,) = read(tmp_path, split=split)
    assert question.answers == ()
    assert question.video.parts[-2:] == ("test2015", "COCO_test2015_000000000042.jpg")


def test_okvqa_tests_on_the_images_of_val2014(tmp_path: Path) -> None:
    write_vqa(tmp_path, "val2014", [5], prefix="")
    assert len(read(tmp_path, "okvqa", "test")[0].answers) == 10
    with pytest.raises(UserError, match="'okvqa' has no split 'validate'; allowed: train, test"):
        read(tmp_path, "okvqa")


def test_questions_of_another_split_than_the_annotation_are_refused(tmp_path: Path) -> None:
    write_vqa(tmp_path, "val2014", [5])
    write_vqa_questions(tmp_path, "val2014", [5], data_subtype="train2014")
    with pytest.raises(UserError, match=r"questions of train2014, and .* of val2014; take both files of one split"):
        read(tmp_path)


def test_questions_of_another_split_are_refused_if_nothing_names_it(tmp_path: Path) -> None:
    write_vqa(tmp_path, "val2014", [5])
    write_vqa_questions(tmp_path, "val2014", [6, 5], data_subtype=None)
    with pytest.raises(UserError, match=r"has no annotation of 6, of 2 questions in .*both files of one split"):
        read(tmp_path)
    write_vqa_questions(tmp_path, "val2014", [])
    with pytest.raises(UserError, match=r"has annotations of 5, which are not in"):
        read(tmp_path)


def test_a_question_is_about_one_image_in_both_files(tmp_path: Path) -> None:
    write_vqa(tmp_path, "val2014", [5])
    write_vqa_annotations(tmp_path, "val2014", [vqa_annotation(5, image_id=43)])
    with pytest.raises(UserError, match=r"question 5 is about image 42, and in .* about 43"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": "yes"}, "has no list of answers"),
        ({"answers": [{"text": "yes"}]}, "has no 'answer'"),
        ({"answers": [{"answer": 3}]}, "an answer is 3; answers are strings"),
        ({"question_id": None}, "the question id is None"),
        ({"answer_type": 3}, "answer_type is 3; it is a string"),
    ],
)
def test_wrong_annotations_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_vqa_questions(tmp_path, "val2014", [5])
    write_vqa_annotations(tmp_path, "val2014", [vqa_annotation(5, **changes)])
    with pytest.raises(UserError, match=rf"annotations\[0\].*{message}"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_id": "x"}, "the image_id is 'x'"),
        ({"question": " "}, "the question is ' '"),
        ({"question_id": [1]}, r"the question id is \[1\]"),
    ],
)
def test_wrong_questions_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    entry = {"question_id": 5, "image_id": 42, "question": "What?"} | changes
    write_vqa_questions(tmp_path, "test2015", [], questions=[entry])
    with pytest.raises(UserError, match=rf"questions\[0\].*{message}"):
        read(tmp_path, split="test")


def test_an_annotation_is_there_once(tmp_path: Path) -> None:
    write_vqa_questions(tmp_path, "val2014", [5])
    write_vqa_annotations(tmp_path, "val2014", [vqa_annotation(5), vqa_annotation(5)])
    with pytest.raises(UserError, match="question 5 is listed a second time"):
        read(tmp_path)

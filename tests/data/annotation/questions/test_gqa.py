from pathlib import Path
from typing import Any

import pytest
from question_files import gqa_question, write_gqa

from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions.splits import read_questions
from evlvideo.errors import UserError


def read(root: Path, split: str = "test_dev") -> list[Question]:
    return list(read_questions("gqa", split, root, check_counts=False, check_files=False))


def test_the_structure_says_whether_a_question_is_open(tmp_path: Path) -> None:
    what = gqa_question(question="What color?", answer="red", types={"structural": "query"})
    write_gqa(tmp_path, {"201307251": gqa_question(), "201640614": what})
    first, second = read(tmp_path)
    file = tmp_path / "images" / "n161313.jpg"
    assert first == Question("201307251", "n161313", "Is it red?", file, ("no",), "binary", "verify")
    assert (second.answer_type, second.question_type) == ("open", "query")


def test_the_list_of_lavis_has_no_types(tmp_path: Path) -> None:
    entry = {"image": "n161313.jpg", "question": "Is it red?", "question_id": "201307251", "answer": "no"}
    write_gqa(tmp_path, [entry])
    assert read(tmp_path) == [
        Question("201307251", "n161313", "Is it red?", tmp_path / "images" / "n161313.jpg", ("no",))
    ]


@pytest.mark.parametrize("folder", ["annotations", "questions1.2", "questions"])
def test_questions_lie_where_the_archive_puts_them(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    write_gqa(tmp_path / folder, {"1": gqa_question()}, "val")
    assert len(read(tmp_path, "validate")) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"1": gqa_question(answer=None)}, "question '1': an answer is None"),
        ({"1": "x"}, "question '1' is 'x'; it must be an object"),
        ({"1": gqa_question(imageId="../x")}, "question '1': the file .* lies outside"),
        ([{"image": "a.jpg", "question": "x"}], "entry 0 has no 'question_id'"),
        (["x"], "entry 0 is 'x'; it must be an object"),
        ("x", "holds a JSON str"),
    ],
)
def test_wrong_entries_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    write_gqa(tmp_path, content)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_no_annotation_says_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no testdev_balanced_questions.json or questions1.2/"):
        read(tmp_path)

import json
from pathlib import Path
from typing import Any

import pytest

from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions.splits import read_questions
from evlvideo.errors import UserError

LINE = {"image": "photos/b.jpg", "question": "What is it?", "answers": ["a cat", "cat"], "split": "test"}


def read(root: Path, *lines: Any) -> list[Question]:
    (root / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return list(read_questions("jsonl_qa", "test", root, check_files=False))


def test_a_line_is_a_question(tmp_path: Path) -> None:
    types = {"id": 9, "answer_type": "other", "question_type": "what"}
    video = {"video": "a.mp4", "question": "who?", "split": "test", "start_seconds": 2, "end_seconds": 3}
    assert read(tmp_path, LINE | types, video) == [
        Question("9", "photos/b", "What is it?", tmp_path / "photos/b.jpg", ("a cat", "cat"), "other", "what"),
        Question("a_1", "a", "who?", tmp_path / "a.mp4", start_seconds=2.0, end_seconds=3.0),
    ]


def test_questions_without_an_id_are_numbered_by_file(tmp_path: Path) -> None:
    other = LINE | {"image": "c.jpg"}
    of_train = LINE | {"split": "train"}
    assert [question.question_id for question in read(tmp_path, of_train, LINE, other, LINE)] == [
        "photos/b_1",
        "c_1",
        "photos/b_2",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINE | {"answer": "x"}, "unknown keys 'answer'; allowed: video, image, question, answers"),
        (LINE | {"video": "a.mp4"}, "needs either 'video' or 'image'"),
        (LINE | {"split": "val"}, "the split is 'val'; allowed: train, validate, test"),
        (LINE | {"answers": []}, "has no answers"),
        (LINE | {"answers": [1]}, "an answer is 1"),
        (LINE | {"question": ""}, "the question is ''"),
        (LINE | {"start_seconds": 1}, "an image has no start_seconds"),
        (LINE | {"split": "train", "question": 3}, "the question is 3"),
        ({"image": "a.jpg", "split": "test"}, "has no 'question'"),
    ],
)
def test_wrong_lines_are_refused(tmp_path: Path, line: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"line 2.*{message}"):
        read(tmp_path, LINE, line)


def test_an_id_is_there_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lists 9 of jsonl_qa:test more than once; keep one of each"):
        read(tmp_path, LINE | {"id": 9}, LINE | {"id": "9"})

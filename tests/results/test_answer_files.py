import json
from pathlib import Path
from typing import Any

import pytest

from evlvideo.errors import UserError
from evlvideo.results.answer_files import read_answers, write_answers


def read(path: Path, content: Any) -> dict[str, str]:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_answers(path)


@pytest.mark.parametrize(
    "content",
    [
        [{"question_id": 262148000, "answer": "yes"}, {"question_id": 262148001, "answer": ""}],
        [{"questionId": "262148000", "prediction": "yes"}, {"questionId": "262148001", "prediction": ""}],
        {"262148000": "yes", "262148001": ""},
        '{"question_id": 262148000, "answer": "yes"}\n{"question_id": 262148001, "answer": ""}\n',
    ],
)
def test_each_form_is_read(tmp_path: Path, content: Any) -> None:
    assert read(tmp_path / "answers.json", content) == {"262148000": "yes", "262148001": ""}


def test_results_are_written_as_the_server_of_vqa_wants_them(tmp_path: Path) -> None:
    write_answers(tmp_path / "out.json", {"262148000": "yes", "test_1": "nö", "007": "x"})
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == [
        {"question_id": 262148000, "answer": "yes"},
        {"question_id": "test_1", "answer": "nö"},
        {"question_id": "007", "answer": "x"},
    ]
    assert read_answers(tmp_path / "out.json") == {"262148000": "yes", "test_1": "nö", "007": "x"}


def test_ids_of_gqa_stay_text(tmp_path: Path) -> None:
    write_answers(tmp_path / "out.json", {"201": "yes"}, ("questionId", "prediction"))
    assert json.loads((tmp_path / "out.json").read_text()) == [{"questionId": "201", "prediction": "yes"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"question_id": 1, "answer": "a"}, {"question_id": "1", "answer": "b"}], r"more than one .* 1 \(2\)"),
        ('{"1": "a", "1": "b"}', r"more than one answer to 1 questions: 1 \(2\). Keep one"),
        ([{"question_id": 1, "answer": 3}], "entry 0: the answer to 1 is 3, not text"),
        ([{"question_id": 1}], "entry 0 is .*; expected a list of"),
        ([{"question_id": None, "answer": "a"}], "entry 0: the question id is None"),
        ({"1": ["a"]}, r"the answer to 1 is \['a'\], not text"),
        ("3", "neither a list nor a mapping"),
        ("[", "is not a JSON file"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path / "answers.json", content)

import io
import json
import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions.splits import read_questions
from evlvideo.errors import UserError

ENTRY = {"image": "test_0001", "question": "is it necrotic?", "answer": "yes"}


def read(root: Path, **options: Any) -> list[Question]:
    return list(read_questions("pathvqa", "test", root, **({"check_counts": False, "check_files": False} | options)))


def write_pickle(root: Path, content: Any) -> Path:
    path = root / "qas" / "test" / "test_qa.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))
    return path


def test_the_original_pickle_is_read(tmp_path: Path) -> None:
    write_pickle(tmp_path, [ENTRY, ENTRY | {"question": "What is it?", "answer": "liver"}])
    file = tmp_path / "images" / "test" / "test_0001.jpg"
    assert read(tmp_path) == [
        Question("test_0001_1", "test_0001", "is it necrotic?", file, ("yes",), "closed", "other"),
        Question("test_0001_2", "test_0001", "What is it?", file, ("liver",), "open", "what"),
    ]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles_of_every_protocol_are_read(tmp_path: Path, protocol: int) -> None:
    write_pickle(tmp_path, pickle.dumps([ENTRY], protocol))
    assert len(read(tmp_path)) == 1


class Runs:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("content", [[ENTRY, Runs()], Runs(), OrderedDict(ENTRY)])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_that_names_a_function_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pickle(tmp_path, pickle.dumps(content, protocol))
    with pytest.raises(UserError, match=r"test_qa.pkl is refused: it names \w+.\w+, and reading it could run code"):
        read(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([ENTRY])[:-9], b"\x80\x04\x95\xff\xff."])
def test_a_broken_pickle_is_refused(tmp_path: Path, content: bytes) -> None:
    write_pickle(tmp_path, content)
    with pytest.raises(UserError, match=r"test_qa\.pkl is not a pickle of plain data"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "must be a list of questions"),
        ([3], "entry 0 is 3; it must have 'image'"),
        ([{"image": "a", "question": "x"}], "entry 0 has no 'answer'"),
        ([ENTRY | {"question": b"x"}], "entry 0: the question is b'x'"),
        ([ENTRY | {"image": "../../x"}], "entry 0: the file .* lies outside"),
    ],
)
def test_wrong_entries_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    write_pickle(tmp_path, content)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def write_json(root: Path, **changes: Any) -> None:
    questions = {"pvqa": ["Is it necrotic?", "What is it?"]}
    labels = {"pvqa": [{"yes": 1}, {"liver": 1}]}
    entry = {"img_id": "test_0001", "sentf": questions, "labelf": labels} | changes
    (root / "pvqa_test.json").write_text(json.dumps([entry]))


def test_the_json_form_has_an_entry_for_each_image(tmp_path: Path) -> None:
    write_json(tmp_path)
    first, second = read(tmp_path)
    assert (first.question_id, first.text, first.answers) == ("test_0001_1", "Is it necrotic?", ("yes",))
    assert (second.question_id, second.text, second.answers) == ("test_0001_2", "What is it?", ("liver",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labelf": {"pvqa": [{"yes": 1}]}}, "has 2 questions and 1 answers"),
        ({"labelf": {"pvqa": ["yes", "no"]}}, "an answer is 'yes'; it must be {answer: 1}"),
        ({"sentf": {}}, "sentf is {}"),
    ],
)
def test_wrong_json_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_json(tmp_path, **changes)
    with pytest.raises(UserError, match=f"entry 0.*{message}"):
        read(tmp_path)


def test_no_form_says_what_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no qas/test/test_qa.pkl, pvqa_test.json or data/test-\*.parquet in"):
        read(tmp_path)


def picture(color: int) -> bytes:
    content = io.BytesIO()
    Image.new("L", (8, 8), color).save(content, "jpeg")
    return content.getvalue()


def write_parquet(root: Path, images: list[bytes | None]) -> None:
    (root / "data").mkdir()
    columns = {
        "image": [{"bytes": content, "path": None} for content in images],
        "question": ["is it necrotic?"] * len(images),
        "answer": ["no"] * len(images),
    }
    parquet.write_table(pyarrow.table(columns), root / "data" / "test-00000-of-00001.parquet")


def test_images_of_the_hub_are_unpacked_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVLVIDEO_CACHE", str(tmp_path / "cache"))
    write_parquet(tmp_path, [picture(1), picture(200), picture(1)])
    questions = read(tmp_path, check_files=True)
    assert len({question.video for question in questions}) == 2
    assert [question.video.read_bytes() for question in questions] == [picture(1), picture(200), picture(1)]
    assert questions[2].question_id == f"{questions[0].clip_id}_2"
    assert questions[0].answer_type == "closed"


def test_rows_without_an_image_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVLVIDEO_CACHE", str(tmp_path / "cache"))
    write_parquet(tmp_path, [picture(1), None])
    with pytest.raises(UserError, match=r"row 1: the image is .* its bytes must be in the file"):
        read(tmp_path)


def test_a_broken_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "test-0.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(UserError, match=r"test-0.parquet cannot be read"):
        read(tmp_path)

import json
from pathlib import Path
from typing import Any

import pytest

from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions.splits import read_questions
from evlvideo.errors import UserError

ENTRY = {"answer": "couch", "category_id": 14, "id": 158581, "question": "what is it?", "video_id": 6513}


def write(root: Path, *entries: Any, name: str = "test_qa.json") -> None:
    (root / name).write_text(json.dumps(entries))


def read(root: Path, dataset: str = "msrvtt_qa") -> list[Question]:
    return list(read_questions(dataset, "test", root, check_counts=False, check_files=False))


def test_clips_of_msrvtt_are_named_by_number(tmp_path: Path) -> None:
    write(tmp_path, ENTRY)
    file = tmp_path / "videos" / "video6513.mp4"
    assert read(tmp_path) == [Question("158581", "video6513", "what is it?", file, ("couch",), question_type="what")]


def test_entries_may_name_the_file(tmp_path: Path) -> None:
    entry = {"video": "video7010.mp4", "question": "is it?", "answer": "yes"}
    write(tmp_path, entry, entry, name="qa_test.json")
    first, second = read(tmp_path)
    assert (first.clip_id, first.video) == ("video7010", tmp_path / "videos" / "video7010.mp4")
    assert (first.question_id, second.question_id) == ("0", "1")
    assert first.question_type == "other"


def test_clips_of_msvd_are_named_by_the_mapping(tmp_path: Path) -> None:
    write(tmp_path, ENTRY | {"video_id": 1301})
    (tmp_path / "youtube_mapping.txt").write_text("-4wsuPCjDBc_5_15 vid1\nabc_1_9 vid1301\n")
    (tmp_path / "YouTubeClips").mkdir()
    (tmp_path / "YouTubeClips" / "abc_1_9.mp4").touch()
    (question,) = read(tmp_path, "msvd_qa")
    assert (question.clip_id, question.video.name) == ("abc_1_9", "abc_1_9.mp4")


def test_clips_of_msvd_keep_their_numbers_without_a_mapping(tmp_path: Path) -> None:
    write(tmp_path, ENTRY | {"video_id": 1301})
    assert read(tmp_path, "msvd_qa")[0].video.name == "vid1301.avi"


@pytest.mark.parametrize(
    ("line", "message"), [("abc vid2", "has no line for vid6513"), ("abc", "line 1 is 'abc'; it must be")]
)
def test_a_wrong_mapping_is_refused(tmp_path: Path, line: str, message: str) -> None:
    write(tmp_path, ENTRY)
    (tmp_path / "youtube_mapping.txt").write_text(line)
    with pytest.raises(UserError, match=message):
        read(tmp_path, "msvd_qa")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("x", "entry 0 is 'x'"),
        ({"question": "x", "answer": "y"}, "entry 0 has no 'video_id'"),
        ({"question": "x", "answer": "y", "video": "../x.mp4"}, "entry 0: the file .* lies outside"),
        ({"question": "x", "video_id": 1}, "entry 0 has no 'answer'"),
    ],
)
def test_wrong_entries_are_refused(tmp_path: Path, entry: Any, message: str) -> None:
    write(tmp_path, entry)
    with pytest.raises(UserError, match=message):
        read(tmp_path)

import json
from pathlib import Path
from typing import Any

import pytest

from evlvideo.errors import UserError
from evlvideo.results.prediction_files import read_predictions


@pytest.mark.parametrize("key", ["image_id", "video_id", "id"])
def test_csv(tmp_path: Path, key: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(f'{key},caption\r\nvideo1,"a man, and ""his"" dog"\r\n2,"two\r\nlines"\r\n', encoding="utf-8-sig")
    assert {name: " ".join(text.split()) for name, text in read_predictions(path).items()} == {
        "video1": 'a man, and "his" dog',
        "2": "two lines",
    }


def test_columns_of_a_csv_in_any_order_and_beside_others(tmp_path: Path) -> None:
    path = tmp_path / "p.CSV"
    path.write_text("score,caption,image_id\n0.5,a café,video1\n")
    assert read_predictions(path) == {"video1": "a café"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video1,a man\n", "no column caption"),
        ("name,caption\nvideo1,a man\n", "line 2: there is no id in image_id, video_id, videoID, clip_id, id;"),
        ("image_id,caption\n ,a man\n", "line 2: there is no id"),
        ("image_id,caption\nvideo1,a man, running\n", "line 2: 3 values for 2 columns"),
        ("image_id,caption\n1,a\n2,b\n1,c\n", r"more than one caption for 1 clips: 1 \(2\)"),
    ],
)
def test_wrong_csv(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_predictions(path)


@pytest.mark.parametrize(("clip_id", "name"), [(7, "7"), ("video7", "video7"), (7.0, "7"), (7.5, "7.5")])
def test_ids_of_any_type(tmp_path: Path, clip_id: Any, name: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"image_id": clip_id, "caption": "a"}]))
    assert read_predictions(path) == {name: "a"}


@pytest.mark.parametrize("clip_id", [None, True, [1], {"id": 1}])
def test_what_is_no_id(tmp_path: Path, clip_id: Any) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"image_id": clip_id, "caption": "a"}]))
    with pytest.raises(UserError, match="it must be text or a number"):
        read_predictions(path)


def test_a_number_and_its_text_are_one_id(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"image_id": 7, "caption": "a"}, {"image_id": "7", "caption": "b"}]))
    with pytest.raises(UserError, match=r"more than one caption for 1 clips: 7 \(2\)"):
        read_predictions(path)


def test_a_key_that_is_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"a": "one", "b": "two", "a": "three"}')
    with pytest.raises(UserError, match=r"more than one caption for 1 clips: a \(2\)"):
        read_predictions(path)


LISTED = [{"video_id": "video0", "caption": "a man"}, {"video_id": "video1", "caption": "a dog"}]
OF_OTHER_TOOLS = {
    "lists.json": json.dumps({"video0": ["a man"], "video1": ["a dog"]}),
    "objects.json": json.dumps({"video0": [{"caption": "a man"}], "video1": {"caption": "a dog"}}),
    "sentences.json": json.dumps({"results": {"video0": [{"sentence": "a man"}], "video1": [{"sentence": "a dog"}]}}),
    "challenge.json": json.dumps({"version": "VERSION 1.0", "result": LISTED, "external_data": {"used": "false"}}),
    "beside_scores.json": json.dumps({"predictions": {entry["video_id"]: [entry] for entry in LISTED}, "scores": {}}),
    "lines.jsonl": "\ufeff" + "\r\n".join(map(json.dumps, LISTED)),
    "lines.txt": "\n".join(map(json.dumps, LISTED)),
    "table.tsv": 'video0\t[{"caption": "a man", "conf": 0.9}]\nvideo1\ta dog\n',
    "header.tsv": "video_id\tcaption\nvideo0\ta man\nvideo1\ta dog\n",
    "indented.json": json.dumps(LISTED, indent=2),
}


@pytest.mark.parametrize("name", OF_OTHER_TOOLS)
def test_files_of_other_tools(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(OF_OTHER_TOOLS[name], newline="")
    assert read_predictions(tmp_path / name) == {"video0": "a man", "video1": "a dog"}


def test_one_line_is_one_caption(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps(LISTED[0]))
    assert read_predictions(tmp_path / "p.jsonl") == {"video0": "a man"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.json", '{"a": ["one", "two"]}', r"more than one caption for 1 clips: a \(2\)"),
        ("p.json", '{"a": []}', r"the caption of 'a' is \[\], not text; expected a list"),
        ("p.json", '{"a": [["one"]]}', "the caption of 'a' is .*, not text"),
        ("p.json", '{"a": [{"text": "one"}]}', "the caption of 'a' is .*, not text"),
        ("p.json", '{"a": null}', "the caption of 'a' is None, not text"),
        ("p.json", '{"result": [{"caption": "one"}]}', "result, entry 0 is .*; expected a list"),
        ("p.json", '[{"image_id": 1, "caption": "\\ud83d"}]', "is half of a character: line 1"),
        ("p.jsonl", '{"id": 1, "caption": "a"}\n{"id": 2', "line 2 is not JSON: .* one object a line"),
        ("p.jsonl", '{"id": 1, "caption": "a"}\n3', "entry 1 is 3; expected"),
        ("p.tsv", "video0 a man\n", "line 1 has no tab"),
        ("p.json", "17", "holds neither a list nor a mapping"),
    ],
)
def test_wrong_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_predictions(tmp_path / name)


@pytest.mark.parametrize("text", ["{}", "[]"])
def test_no_captions(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    assert read_predictions(path) == {}

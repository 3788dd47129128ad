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
        ("name,caption\nvideo1,a man\n", "line 2: there is no id in image_id, video_id, id"),
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


@pytest.mark.parametrize("text", ["{}", "[]"])
def test_no_captions(tmp_path: Path, text: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    assert read_predictions(path) == {}

import json
from pathlib import Path

import pytest
from tiny_data import write_layout

from evlvideo.data.annotation.references import read_references
from evlvideo.errors import UserError


def test_references_are_read_from_the_official_file(tmp_path: Path) -> None:
    write_layout(tmp_path, {"train": 6, "validate": 2, "test": 3}, captions=4)
    references = read_references(tmp_path / "train_val_videodatainfo.json")
    assert len(references) == 8
    assert references["video7"] == [f"video7 caption {k}" for k in range(4)]


def test_references_are_read_from_a_coco_like_file(tmp_path: Path) -> None:
    path = tmp_path / "references.json"
    images = [{"id": 3}, {"id": "video4"}]
    captions = [{"id": k, "image_id": image, "caption": f"c{k}"} for k, image in enumerate((3, "video4", 3))]
    path.write_text(json.dumps({"images": images, "annotations": captions}))
    assert read_references(path) == {"3": ["c0", "c2"], "video4": ["c1"]}


def test_references_are_read_from_a_plain_mapping(tmp_path: Path) -> None:
    path = tmp_path / "references.json"
    path.write_text('{"video1": ["a dog", "a puppy"]}')
    assert read_references(path) == {"video1": ["a dog", "a puppy"]}


LISTED = [{"image_id": name, "caption": text} for name, text in (("a", "one"), (2, "two"), ("a", "three"))]
OF_OTHER_TOOLS = {
    "list.json": json.dumps(LISTED),
    "objects.json": json.dumps({"a": [{"caption": "one"}, {"caption": "three"}], "2": [{"caption": "two"}]}),
    "challenge.json": json.dumps({"version": "VERSION 1.0", "result": LISTED, "external_data": {"used": "false"}}),
    "lines.jsonl": "".join(json.dumps(entry) + "\n\n" for entry in LISTED),
    "lines.json": "".join(json.dumps(entry) + "\n" for entry in LISTED),
    "table.csv": "video_id,caption\na,one\n2,two\na,three\n",
    "table.tsv": 'a\t[{"caption": "one"}, {"caption": "three"}]\n2\ttwo\n',
    "vatex.json": json.dumps(
        [{"videoID": "a", "enCap": ["one", "three"], "chCap": ["x"]}, {"videoID": "2", "enCap": ["two"]}]
    ),
    "AllVideoDescriptions.txt": "# a comment\na one\n2 two\na three\n",
}


@pytest.mark.parametrize("name", OF_OTHER_TOOLS)
def test_references_are_read_from_files_of_other_tools(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(OF_OTHER_TOOLS[name])
    assert read_references(tmp_path / name) == {"a": ["one", "three"], "2": ["two"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"video1": "a dog"}', "'video1' does not hold a list of captions"),
        ('{"video1": []}', "the caption of 'video1' is"),
        ('{"video1": ["a"], "video2": []}', "the caption of 'video2' is"),
        ("{}", "holds no clips"),
        ('{"images": [{"id": 1}], "annotations": []}', "no captions of 1"),
        ('{"images": [], "annotations": [{"image_id": 1, "caption": "a"}]}', "captions of 1, not among"),
        ('{"images": [{}], "annotations": []}', r"images\[0\] has no 'id'"),
        ("not JSON", "is not a JSON file"),
        ("[]", "holds no clips"),
        ("[3]", "entry 0 is 3; expected a list"),
        ('"text"', "holds neither a list nor a mapping"),
    ],
)
def test_malformed_references_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "references.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_references(path)

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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"video1": "a dog"}', "'video1' does not hold a list of captions"),
        ('{"video1": []}', "'video1' does not hold a list of captions"),
        ("{}", "holds no clips"),
        ('{"images": [{"id": 1}], "annotations": []}', "no captions of 1"),
        ('{"images": [], "annotations": [{"image_id": 1, "caption": "a"}]}', "captions of 1, not among"),
        ('{"images": [{}], "annotations": []}', r"images\[0\] has no 'id'"),
        ("not JSON", "is not a JSON file"),
        ("[]", "holds a JSON list"),
    ],
)
def test_malformed_references_are_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "references.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_references(path)

import json
from pathlib import Path
from typing import Any

import pytest

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.splits import read_split
from evlvideo.errors import UserError

IMAGES = [{"id": 391895, "file_name": "000000391895.jpg"}, {"id": 7, "file_name": "000000000007.jpg"}]
CAPTIONS = [{"id": k, "image_id": image, "caption": f"c{k}"} for k, image in enumerate((7, 391895, 7))]


def write(root: Path, images: list[Any], captions: list[Any]) -> None:
    (root / "annotations").mkdir()
    content = {"info": {}, "images": images, "licenses": [], "annotations": captions}
    (root / "annotations" / "captions_val2017.json").write_text(json.dumps(content))


def read(root: Path) -> list[CaptionedClip]:
    return list(read_split("coco2017", "validate", root, check_files=False, check_counts=False))


@pytest.mark.parametrize("folder", ["", "images"])
def test_images_have_their_captions_and_lie_as_unpacked(tmp_path: Path, folder: str) -> None:
    write(tmp_path, IMAGES, CAPTIONS)
    (tmp_path / folder / "val2017").mkdir(parents=True)
    root = tmp_path / folder / "val2017"
    assert read(tmp_path) == [
        CaptionedClip("391895", root / "000000391895.jpg", ("c1",)),
        CaptionedClip("7", root / "000000000007.jpg", ("c0", "c2")),
    ]


@pytest.mark.parametrize(
    ("images", "captions", "message"),
    [
        (IMAGES, CAPTIONS[:1], "no captions of 391895"),
        (IMAGES[:1], CAPTIONS, "captions of 7, not among its clips"),
        ([*IMAGES, IMAGES[0]], CAPTIONS, "lists 391895 more than once"),
        ([{"id": 1}], [], r"images\[0\] has no 'file_name'"),
        ([{"id": 1, "file_name": "../../x.jpg"}], [], "lies outside"),
        ([{"id": 1, "file_name": 3}], [], "the file is 3"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, images: list[Any], captions: list[Any], message: str) -> None:
    write(tmp_path, images, captions)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_the_published_splits_are_counted(tmp_path: Path) -> None:
    write(tmp_path, IMAGES, CAPTIONS)
    with pytest.raises(UserError, match="lists 2 clips of coco2017:validate, which has 5000"):
        read_split("coco2017", "validate", tmp_path, check_files=False)

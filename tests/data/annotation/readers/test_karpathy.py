import json
from pathlib import Path
from typing import Any

import pytest

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.facts import DATASETS
from evlvideo.data.annotation.splits import read_split
from evlvideo.errors import UserError


def image(split: str, number: int, **more: Any) -> dict[str, Any]:
    return {
        "filepath": "val2014",
        "filename": f"COCO_val2014_{number:012d}.jpg",
        "cocoid": number,
        "split": split,
        "sentences": [{"raw": f"image {number}, caption {k}", "tokens": []} for k in range(5)],
        **more,
    }


def write(root: Path, images: list[Any], name: str = "dataset_coco.json") -> None:
    (root / name).write_text(json.dumps({"images": images, "dataset": "coco"}))


def read(root: Path, split: str = "test") -> list[CaptionedClip]:
    return list(DATASETS["coco"].read(root, root / "images", split))


def test_an_image_is_a_clip(tmp_path: Path) -> None:
    write(tmp_path, [image("test", 391895)])
    (clip,) = read(tmp_path)
    assert clip.clip_id == "391895"
    assert clip.video == tmp_path / "images" / "val2014" / "COCO_val2014_000000391895.jpg"
    assert clip.captions[1] == "image 391895, caption 1"


def test_restval_is_trained_on(tmp_path: Path) -> None:
    write(tmp_path, [image("restval", 1), image("val", 2), image("train", 3), image("test", 4)])
    assert [clip.clip_id for clip in read(tmp_path, "train")] == ["1", "3"]
    assert [clip.clip_id for clip in read(tmp_path, "validate")] == ["2"]


def test_flickr30k_is_named_by_its_files(tmp_path: Path) -> None:
    entry = {"filename": "1000092795.jpg", "split": "train", "sentences": [{"raw": "two men"}]}
    write(tmp_path, [entry], "dataset_flickr30k.json")
    (clip,) = DATASETS["flickr30k"].read(tmp_path, tmp_path, "train")
    assert (clip.clip_id, clip.video) == ("1000092795", tmp_path / "1000092795.jpg")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (image("dev", 1), r"images\[0\]: the split is 'dev'; allowed: train, restval, val, test"),
        (image("test", 1, sentences=[]), r"images\[0\] has no list of sentences"),
        (image("test", 1, sentences=["a"]), "has no list of sentences"),
        (image("test", 1, sentences=[{}]), "has no 'raw'"),
        (image("test", 1, sentences=[{"raw": "\n"}]), "a caption is empty"),
        (image("test", 1, filename="../../../etc/passwd"), "lies outside"),
        (image("test", 1, filepath="/etc"), "lies outside"),
        (image("test", 1, filename=None), "the file is"),
        (image("test", 1, cocoid=1.5), "the clip id is 1.5"),
    ],
)
def test_wrong_images_are_refused(tmp_path: Path, entry: Any, message: str) -> None:
    write(tmp_path, [entry])
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_an_image_listed_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [image("test", 1), image("test", 1)])
    with pytest.raises(UserError, match=r"images\[1\]: the clip '1' is listed a second time"):
        read(tmp_path)


def test_a_file_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset_coco.json").write_text("{}")
    with pytest.raises(UserError, match="no list of objects under 'images'"):
        read(tmp_path)


def test_the_published_splits_are_counted(tmp_path: Path) -> None:
    assert dict(DATASETS["coco"].clips()) == {"train": 113_287, "validate": 5000, "test": 5000}
    write(tmp_path, [image("test", 1)])
    with pytest.raises(UserError, match="lists 1 clips of coco:test, which has 5000"):
        read_split("coco", "test", tmp_path, check_files=False)

import json
from pathlib import Path
from typing import Any

import pytest

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.splits import read_split
from evlvideo.errors import UserError

ENTRY = {"videoID": "Ptf_2VRj-V0_000122_000132", "enCap": ["a boy", "a child"], "chCap": ["一个男孩"]}


def write(root: Path, *entries: Any, name: str = "vatex_validation_v1.0.json") -> None:
    (root / name).write_text(json.dumps(entries))


def read(root: Path, dataset: str = "vatex", split: str = "validate") -> list[CaptionedClip]:
    return list(read_split(dataset, split, root, check_files=False, check_counts=False))


def test_each_language_is_a_dataset(tmp_path: Path) -> None:
    write(tmp_path, ENTRY)
    video = tmp_path / "videos" / "Ptf_2VRj-V0_000122_000132.mp4"
    assert read(tmp_path) == [CaptionedClip("Ptf_2VRj-V0_000122_000132", video, ("a boy", "a child"))]
    assert read(tmp_path, "vatex_zh")[0].captions == ("一个男孩",)


def test_the_public_test_split_is_english(tmp_path: Path) -> None:
    write(tmp_path, {"videoID": "x", "enCap": ["a"]}, name="vatex_public_test_english_v1.1.json")
    assert [clip.clip_id for clip in read(tmp_path, split="test")] == ["x"]
    with pytest.raises(UserError, match="'vatex_zh' has no split 'test'; allowed: train, validate"):
        read(tmp_path, "vatex_zh", "test")


def test_downloads_have_other_suffixes(tmp_path: Path) -> None:
    write(tmp_path, ENTRY)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / f"{ENTRY['videoID']}.webm").touch()
    assert read(tmp_path)[0].video.suffix == ".webm"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("a", "entry 1 is 'a'; it must be an object"),
        ({"enCap": ["a"]}, "entry 1 has no 'videoID'"),
        ({"videoID": "x"}, "entry 1 has no 'enCap'"),
        ({"videoID": "x", "enCap": []}, "entry 1 has no captions"),
        ({"videoID": "../../x", "enCap": ["a"]}, "entry 1: the file .* lies outside"),
        (ENTRY, "entry 1: the clip 'Ptf_2VRj-V0_000122_000132' is listed a second time"),
    ],
)
def test_wrong_entries_are_refused(tmp_path: Path, entry: Any, message: str) -> None:
    write(tmp_path, ENTRY, entry)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_the_published_splits_are_counted(tmp_path: Path) -> None:
    write(tmp_path, ENTRY)
    with pytest.raises(UserError, match="lists 1 clips of vatex:validate, which has 3000"):
        read_split("vatex", "validate", tmp_path, check_files=False)

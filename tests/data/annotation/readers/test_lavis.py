import json
from pathlib import Path
from typing import Any

import pytest

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.readers import lavis
from evlvideo.errors import UserError


def write(root: Path, entries: Any, name: str = "cap_train.json") -> None:
    root.mkdir(exist_ok=True)
    (root / name).write_text(json.dumps(entries))


def read(root: Path, split: str = "train") -> list[CaptionedClip]:
    return list(lavis.read(root, root / "videos", split))


def test_entries_of_one_file_are_one_clip(tmp_path: Path) -> None:
    captions = [("video1.mp4", "a"), ("video0.mp4", "b"), ("video1.mp4", "c")]
    write(tmp_path, [{"video": video, "caption": caption} for video, caption in captions])
    clips = read(tmp_path)
    assert [(clip.clip_id, clip.captions) for clip in clips] == [("video1", ("a", "c")), ("video0", ("b",))]
    assert clips[0].video == tmp_path / "videos" / "video1.mp4"


def test_captions_may_be_a_list_and_files_images(tmp_path: Path) -> None:
    write(tmp_path, [{"image": "val2014/x.jpg", "caption": ["a", "b"]}], "coco_karpathy_val.json")
    (clip,) = read(tmp_path, "validate")
    assert (clip.clip_id, clip.captions) == ("val2014/x", ("a", "b"))


@pytest.mark.parametrize(("image_id", "name"), [(7, "7"), ("coco_7", "coco_7")])
def test_image_ids_are_the_names(tmp_path: Path, image_id: Any, name: str) -> None:
    write(tmp_path, [{"image": "x.jpg", "caption": "a", "image_id": image_id}])
    assert read(tmp_path)[0].clip_id == name


def test_lists_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    write(tmp_path / "annotations", [{"video": "a.mp4", "caption": "a"}], "cap_test.json")
    assert len(read(tmp_path, "test")) == 1


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({}, "holds a JSON dict; a list of entries"),
        (["a"], r"cap_train\.json, entry 0 is 'a'; it must be an object"),
        ([{"caption": "a"}], "entry 0 is .* with either 'image' or 'video'"),
        ([{"image": "a", "video": "b", "caption": "a"}], "entry 0 is"),
        ([{"image": "a.jpg"}], "entry 0 has no 'caption'"),
        ([{"image": "a.jpg", "caption": []}], "entry 0 has no captions"),
        ([{"image": "a.jpg", "caption": ""}], "entry 0: a caption is empty"),
        ([{"image": "../../etc/passwd", "caption": "a"}], "entry 0: the file .* lies outside"),
        ([{"image": "/etc/passwd", "caption": "a"}], "lies outside"),
        ([{"image": 3, "caption": "a"}], "entry 0: the file is 3"),
        (
            [{"image": "a.jpg", "caption": "a", "image_id": 1}, {"image": "b.jpg", "caption": "a", "image_id": 1}],
            "entry 1: '1' with the file 'b.jpg' is at odds with an earlier entry",
        ),
        (
            [{"image": "a.jpg", "caption": "a", "image_id": 1}, {"image": "a.jpg", "caption": "a", "image_id": 2}],
            "entry 1: '2' with the file 'a.jpg' is at odds",
        ),
    ],
)
def test_wrong_lists_are_refused(tmp_path: Path, entries: Any, message: str) -> None:
    write(tmp_path, entries)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"There is no \*_test\.json in"):
        read(tmp_path, "test")


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none is not a directory; set data\.root"):
        read(tmp_path / "none")


def test_one_list_has_to_fit(tmp_path: Path) -> None:
    write(tmp_path, [], "cap_train.json")
    write(tmp_path, [], "qa_train.json")
    with pytest.raises(UserError, match=r"2 lists fit the split: .*cap_train\.json, .*qa_train\.json"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b'[{"video": "caf\xe9"}]', b"[", b""])
def test_what_is_not_plain_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cap_train.json").write_bytes(content)
    with pytest.raises(UserError, match=r"cap_train\.json is not a JSON file"):
        read(tmp_path)


def test_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    (tmp_path / "cap_train.json").write_bytes(b'[\r\n{"video": "a.mp4", "caption": "a"}\r\n]\r\n')
    assert len(read(tmp_path)) == 1


def test_hidden_lists_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "cap_train.json").write_text('[{"image": "a.jpg", "caption": "a"}]')
    (tmp_path / "._cap_train.json").write_bytes(b"\x00\x05\x16\x07")
    assert lavis.files(tmp_path, "train") == (tmp_path / "cap_train.json",)

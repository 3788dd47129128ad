import json
from pathlib import Path
from typing import Any

import pytest

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.readers import jsonl
from evlvideo.data.annotation.splits import read_split
from evlvideo.errors import UserError

LINE = {"video": "clips/a.mp4", "captions": ["a dog", "a puppy"], "split": "train"}


def write(root: Path, *lines: dict[str, Any]) -> None:
    (root / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def read(root: Path, split: str = "train") -> list[CaptionedClip]:
    return list(jsonl.read(root, root, split))


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in LINE.items() if name != key}


def test_a_short_line_is_a_clip(tmp_path: Path) -> None:
    write(tmp_path, LINE)
    assert read(tmp_path) == [CaptionedClip("clips/a", tmp_path / "clips" / "a.mp4", ("a dog", "a puppy"))]


def test_a_full_line_is_a_clip(tmp_path: Path) -> None:
    write(tmp_path, {**LINE, "id": 7, "category": 3, "start_seconds": 2.5, "end_seconds": 7})
    (clip,) = read(tmp_path)
    assert (clip.clip_id, clip.category, clip.start_seconds, clip.end_seconds) == ("7", 3, 2.5, 7.0)


def test_an_image_is_a_clip(tmp_path: Path) -> None:
    write(tmp_path, {"image": "b.jpg", "captions": ["a cat"], "split": "validate"})
    assert read(tmp_path, "validate")[0].video == tmp_path / "b.jpg"


def test_parts_of_a_video_have_their_times_as_names(tmp_path: Path) -> None:
    write(
        tmp_path,
        {**LINE, "end_seconds": 2},
        {**LINE, "start_seconds": 2, "end_seconds": 4},
        {**LINE, "start_seconds": 4},
    )
    assert [clip.clip_id for clip in read(tmp_path)] == ["clips/a_0.0_2.0", "clips/a_2.0_4.0", "clips/a_4.0_end"]


def test_byte_order_mark_and_line_ends_of_windows_are_read(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_bytes(b"\xef\xbb\xbf" + json.dumps(LINE).encode() + b"\r\n\r\n")
    assert len(read(tmp_path)) == 1


def test_a_split_is_its_own_lines(tmp_path: Path) -> None:
    write(tmp_path, LINE, {**LINE, "video": "b.mp4", "split": "test"})
    assert [clip.clip_id for clip in read(tmp_path, "test")] == ["b"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (without("video"), "needs either 'video' or 'image'"),
        ({**LINE, "image": "a.jpg"}, "needs either 'video' or 'image'"),
        (without("captions"), "has no 'captions'"),
        (without("split"), "has no 'split'"),
        ({**LINE, "split": "dev"}, "the split is 'dev'; allowed: train, validate, test"),
        ({**LINE, "split": []}, r"the split is \[\]"),
        ({**LINE, "caption": "a"}, "unknown keys 'caption'; allowed: video, image, captions"),
        ({**LINE, "captions": []}, "has no captions"),
        ({**LINE, "captions": ["a", ""]}, "a caption is empty"),
        ({**LINE, "video": "../../etc/passwd"}, "lies outside"),
        ({**LINE, "video": "/etc/passwd"}, "lies outside"),
        ({**LINE, "video": None}, "the file is None"),
        ({**LINE, "id": ""}, "the clip id is ''"),
        ({**LINE, "category": "sports"}, "the category is 'sports'"),
        ({**LINE, "start_seconds": 5, "end_seconds": 4}, "ends at 4 s"),
        ({"image": "a.jpg", "captions": ["a"], "split": "test", "end_seconds": 4}, "an image has no start_seconds"),
    ],
)
def test_wrong_lines_are_refused_with_their_number(tmp_path: Path, line: dict[str, Any], message: str) -> None:
    write(tmp_path, {**LINE, "video": "first.mp4"}, line)
    with pytest.raises(UserError, match=rf"captions\.jsonl, line 2.*{message}"):
        read(tmp_path)


def test_captions_on_neighboring_lines_are_joined(tmp_path: Path) -> None:
    other = {**LINE, "video": "b.mp4"}
    write(tmp_path, LINE, {**other, "split": "test"}, {**LINE, "captions": "a dog runs"}, other)
    assert [(clip.clip_id, clip.captions) for clip in read(tmp_path)] == [
        ("clips/a", ("a dog", "a puppy", "a dog runs")),
        ("b", ("a dog", "a puppy")),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([LINE, {**LINE, "video": "b.mp4"}, LINE], "line 3: the clip 'clips/a' is listed a second time; keep one, or"),
        ([LINE, {**LINE, "id": "clips/a", "video": "b.mp4"}], "line 2: the clip 'clips/a' .* with another file"),
        ([LINE, {**LINE, "category": 3}], "line 2: the clip 'clips/a' .* times or category"),
        ([{**LINE, "id": 1, "end_seconds": 2}, {**LINE, "id": 1, "end_seconds": 3}], "line 2: the clip '1' .* times"),
    ],
)
def test_an_id_is_one_clip(tmp_path: Path, lines: list[dict[str, Any]], message: str) -> None:
    write(tmp_path, *lines)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_half_a_character_is_refused_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, LINE, {**LINE, "video": "b.mp4", "captions": ["a cat \ud83d"]})
    with pytest.raises(UserError, match=r"line 2 is not JSON: .* half of a character"):
        read(tmp_path)


def test_a_line_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_bytes(json.dumps(LINE).encode() + b"\n\xff\xfe\n")
    with pytest.raises(UserError, match="line 2 is not UTF-8"):
        read(tmp_path)


def test_it_is_read_by_its_name(tmp_path: Path) -> None:
    write(tmp_path, LINE)
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").touch()
    assert len(read_split("jsonl", "train", tmp_path)) == 1


def test_the_model_that_made_captions_is_named_with_its_weights(tmp_path: Path) -> None:
    lines = [{**LINE, "video": f"{name}.mp4"} for name in "abc"]
    lines[1]["generated"], lines[2]["generated"] = {"model": "run", "weights": "01ab"}, {"model": "other"}
    write(tmp_path, *lines)
    assert [clip.generated_by for clip in read(tmp_path)] == [None, "run (01ab)", "other"]
    assert read_split("jsonl", "train", tmp_path, check_files=False).captions_by_maker() == {
        "run (01ab)": 2,
        "other": 2,
    }


@pytest.mark.parametrize("made", ["run", {"weights": "01ab"}, {"model": 7}])
def test_what_made_captions_must_be_named(tmp_path: Path, made: Any) -> None:
    write(tmp_path, {**LINE, "generated": made})
    with pytest.raises(UserError, match=r"line 1: generated is .*; it must name the 'model'"):
        read(tmp_path)


def test_captions_of_people_and_of_models_are_not_joined(tmp_path: Path) -> None:
    write(tmp_path, LINE, {**LINE, "generated": {"model": "run"}})
    with pytest.raises(UserError, match="with another file, model, times or category"):
        read(tmp_path)

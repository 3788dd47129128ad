import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_data import SHARED_DATA, sentences, video, write_layout, write_official

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.facts import DATASETS
from evlvideo.data.annotation.readers import msrvtt
from evlvideo.data.annotation.splits import read_split
from evlvideo.errors import UserError

SIZES = {"train": 3, "validate": 1, "test": 2}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_layout(tmp_path, SIZES, captions=2)
    return tmp_path


def read(root: Path, split: str = "test") -> list[CaptionedClip]:
    return list(msrvtt.read(root, root / "videos", split))


def edit(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = root / "test_videodatainfo.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("videos"), "no list of objects under 'videos'"),
        (lambda content: content.update(sentences={}), "no list of objects under 'sentences'"),
        (lambda content: content["videos"][0].pop("split"), r"json, videos\[0\] has no 'split'"),
        (lambda content: content["videos"][1].pop("video_id"), r"json, videos\[1\] has no 'video_id'"),
        (lambda content: content["videos"][1].update(video_id=None), r"json, videos\[1\]: the clip id is None"),
        (lambda content: content["videos"][1].update(category="music"), r"videos\[1\]: the category is 'music'"),
        (lambda content: content["sentences"][0].update(sen_id="first"), r"sentences\[0\]: the sen_id is 'first'"),
        (lambda content: content["sentences"][1].update(caption=7), r"sentences\[1\]: a caption is 7"),
        (lambda content: content["sentences"][1].update(caption=" "), r"sentences\[1\]: a caption is empty"),
        (lambda content: content["videos"].append(content["videos"][0]), "lists video4 more than once"),
        (
            lambda content: content["sentences"].append({"sen_id": 99, "video_id": "video77", "caption": "a"}),
            "captions of video77, not among its clips",
        ),
        (lambda content: content["videos"].append(video(9, "test")), "has no captions of video9"),
    ],
)
def test_malformed_annotations_are_refused(root: Path, change: Callable[[Any], None], message: str) -> None:
    edit(root, change)
    with pytest.raises(UserError, match=message):
        read(root)


def test_annotations_that_are_no_object_are_refused(root: Path) -> None:
    (root / "test_videodatainfo.json").write_text("[]")
    with pytest.raises(UserError, match="holds a JSON list"):
        read(root)


@pytest.mark.parametrize("clip_id", ["../../etc/passwd", "/etc/passwd"])
def test_clip_ids_stay_under_the_video_root(root: Path, clip_id: str) -> None:
    videos = [video(8, "test", video_id=clip_id)]
    write_official(root / "test_videodatainfo.json", videos, sentences(videos, 2))
    with pytest.raises(UserError, match=r"videos\[0\]: the file .* lies outside"):
        read(root)


def write_lists(root: Path, **lists: str) -> None:
    for split, content in lists.items():
        (root / msrvtt.RETRIEVAL_FILES[split]).write_text(content)


def test_a_retrieval_split_is_its_id_list(root: Path) -> None:
    write_lists(root, train_9k="video_id\nvideo5\nvideo0\n")
    clips = read(root, "train_9k")
    assert [clip.clip_id for clip in clips] == ["video5", "video0"]
    assert clips[0].captions == ("video5 caption 0", "video5 caption 1")


def test_a_query_is_its_clips_only_caption(root: Path) -> None:
    write_lists(root, jsfusion="key,vid_key,video_id,sentence\nret0,msr1,video1,a query\n")
    assert read(root, "jsfusion")[0].captions == ("a query",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("video_id\nvideo77\n", "line 2: 'video77' is not a clip of the official annotation"),
        ("video_id\nvideo1\nvideo1\n", "line 3: the clip 'video1' is listed a second time"),
        ("id\nvideo1\n", "has no column video_id"),
    ],
)
def test_wrong_id_lists_are_refused(root: Path, content: str, message: str) -> None:
    write_lists(root, train_7k=content)
    with pytest.raises(UserError, match=message):
        read(root, "train_7k")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("key,video_id\nret0,video1\n", "has no column sentence"),
        ("video_id,sentence\nvideo0,a query\nvideo1, \n", "line 3: a caption is empty"),
        ("video_id,sentence\nvideo1,a query\nvideo1,another\n", "line 3: the clip 'video1' is listed a second time"),
    ],
)
def test_a_list_of_queries_has_one_for_each_clip(root: Path, content: str, message: str) -> None:
    write_lists(root, jsfusion=content)
    with pytest.raises(UserError, match=message):
        read(root, "jsfusion")
    with pytest.raises(UserError, match=message):
        list(msrvtt.read_queries(root / msrvtt.RETRIEVAL_FILES["jsfusion"]))


@pytest.mark.parametrize("split", ["train_7k", "train_9k"])
def test_a_list_to_train_on_names_no_clip_of_the_test(root: Path, split: str) -> None:
    write_lists(root, jsfusion="key,video_id,sentence\nret0,video5,a query\n", **{split: "video_id\nvideo0\nvideo5\n"})
    with pytest.raises(UserError, match=r"csv, line 3: 'video5' is a clip of MSRVTT_JSFUSION_test\.csv, on which"):
        read(root, split)


def test_queries_are_read_without_the_annotation(root: Path) -> None:
    path = root / "queries.csv"
    path.write_text("key,vid_key,video_id,sentence\nret0,msr9770,video9770,a query\n")
    assert list(msrvtt.read_queries(path)) == [("video9770", "a query")]


def test_a_missing_id_list_is_named(root: Path) -> None:
    with pytest.raises(UserError, match=r"There is no MSRVTT_train\.7k\.csv in"):
        read(root, "train_7k")


def test_retrieval_has_to_be_asked_for(root: Path) -> None:
    write_lists(root, train_7k="video_id\nvideo0\nvideo3\n")
    facts = replace(DATASETS["msrvtt"], retrieval_splits={"train_7k": 2})
    with pytest.raises(UserError, match="split for retrieval"):
        read_split("msrvtt", "train_7k", root, check_files=False, facts=facts)
    assert len(read_split("msrvtt", "train_7k", root, check_files=False, facts=facts, purpose="retrieval")) == 2


def test_retrieval_splits_are_counted(root: Path) -> None:
    write_lists(root, train_7k="video_id\nvideo0\n")
    with pytest.raises(UserError, match="lists 1 clips of msrvtt:train_7k, which has 7010"):
        read_split("msrvtt", "train_7k", root, check_files=False, purpose="retrieval")


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (SHARED_DATA / "msrvtt").is_dir():
        pytest.skip("the official annotation is not on this machine")
    root = tmp_path_factory.mktemp("msrvtt")
    for archive in (SHARED_DATA / "msrvtt").glob("*.zip"):
        with zipfile.ZipFile(archive) as file:
            file.extractall(root, [name for name in file.namelist() if name.endswith(".json")])
    return root


@pytest.mark.parametrize(("split", "clips"), [("train", 6513), ("validate", 497), ("test", 2990)])
def test_the_official_annotation_has_the_published_counts(official: Path, split: str, clips: int) -> None:
    read = read_split("msrvtt", split, official, check_files=False)
    assert len(read) == clips
    assert sum(len(clip.captions) for clip in read) == 20 * clips


def test_the_official_annotation_is_read_within_three_seconds(official: Path) -> None:
    """Of this process's own time, so that a busy machine does not fail it."""
    start = time.process_time()
    for path in official.rglob("*_videodatainfo.json"):
        msrvtt.read_official(path, official)
    assert time.process_time() - start < 3


def test_all_splits_may_be_in_one_file(root: Path) -> None:
    official = {split: read(root, split) for split in SIZES}
    parts = [root / f"{part}_videodatainfo.json" for part in ("train_val", "test")]
    contents = [json.loads(path.read_text()) for path in parts]
    videos, texts = ([entry for content in contents for entry in content[key]] for key in ("videos", "sentences"))
    for path in parts:
        path.unlink()
    write_official(root / "MSRVTT_data.json", videos, texts)
    assert {split: read(root, split) for split in SIZES} == official
    (root / "MSRVTT_JSFUSION_test.csv").write_text("key,video_id,sentence\nret0,video4,a query\n")
    assert [clip.captions for clip in msrvtt.read(root, root, "jsfusion")] == [("a query",)]

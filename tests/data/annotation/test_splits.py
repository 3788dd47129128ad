import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_data import write_layout

from evlvideo.data.annotation.facts import DATASETS, deviations_of
from evlvideo.data.annotation.splits import dataset_root, read_split
from evlvideo.errors import UserError

SIZES = {"train": 6, "validate": 2, "test": 3}


@pytest.fixture(autouse=True)
def small_msrvtt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expect few clips, so that tests write few."""
    facts = replace(DATASETS["msrvtt"], clips=lambda: SIZES, captions_per_clip=4)
    monkeypatch.setitem(DATASETS, "msrvtt", facts)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A complete dataset with empty video files."""
    root = tmp_path / "MSRVTT"
    write_layout(root, SIZES, captions=4)
    (root / "videos").mkdir()
    for number in range(sum(SIZES.values())):
        (root / "videos" / f"video{number}.mp4").touch()
    return root


def edit(root: Path, change: Callable[[dict[str, Any]], None], part: str = "test") -> None:
    path = root / f"{part}_videodatainfo.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(("split", "first"), [("train", 0), ("validate", 6), ("test", 8)])
def test_a_split_is_its_own_clips_in_order(root: Path, split: str, first: int) -> None:
    clips = read_split("msrvtt", split, root)
    assert [clip.clip_id for clip in clips] == [f"video{first + place}" for place in range(SIZES[split])]


def test_a_clip_has_its_video_category_and_captions_by_sen_id(root: Path) -> None:
    clip = read_split("msrvtt", "test", root)[1]
    assert clip.video == root / "videos" / "video9.mp4"
    assert clip.captions == tuple(f"video9 caption {k}" for k in range(4))
    assert clip.category == 9
    assert clip.evidence is None


def test_evidence_of_the_mini_set_is_kept(root: Path) -> None:
    edit(root, lambda content: content["videos"][0].update(evidence="frame_order"))
    facts = replace(DATASETS["mini"], clips=lambda: SIZES, captions_per_clip=4)
    assert read_split("mini", "test", root, facts=facts)[0].evidence == "frame_order"


def test_annotations_may_lie_in_a_folder_of_their_own(root: Path) -> None:
    (root / "annotations").mkdir()
    for path in root.glob("*.json"):
        path.rename(root / "annotations" / path.name)
    assert len(read_split("msrvtt", "validate", root)) == 2


def test_videos_may_lie_elsewhere(root: Path, tmp_path: Path) -> None:
    (root / "videos").rename(tmp_path / "clips")
    clips = read_split("msrvtt", "test", root, video_root=tmp_path / "clips")
    assert clips[0].video == tmp_path / "clips" / "video8.mp4"


def test_files_need_not_be_there_where_they_are_not_read(root: Path, tmp_path: Path) -> None:
    assert len(read_split("msrvtt", "test", root, video_root=tmp_path / "none", check_files=False)) == 3


@pytest.mark.parametrize(
    ("dataset", "split", "message"),
    [
        (
            "tgif",
            "test",
            "The dataset is 'tgif'; allowed: msrvtt, mini, msvd, vatex, vatex_zh, webvid, coco, flickr30k, ",
        ),
        ("msrvtt", "val", "no split 'val'; allowed: train, validate, test"),
        ("msrvtt", "train_7k", "split for retrieval.*allowed: train, validate, test"),
        ("msrvtt", "train_9k", "split for retrieval"),
        ("msrvtt", "jsfusion", "split for retrieval"),
    ],
)
def test_unknown_names_are_refused(root: Path, dataset: str, split: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_split(dataset, split, root)


def test_an_unknown_purpose_is_refused(root: Path) -> None:
    with pytest.raises(UserError, match="The purpose is 'fun'; allowed: captioning, retrieval"):
        read_split("msrvtt", "test", root, purpose="fun")


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none is not a directory; set data\.root"):
        read_split("msrvtt", "test", tmp_path / "none")


def test_a_root_without_annotations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no test_videodatainfo\.json or MSRVTT_data\.json in .*annotations"):
        read_split("msrvtt", "test", tmp_path)


def test_a_missing_video_root_is_named(root: Path) -> None:
    with pytest.raises(UserError, match=r"none is not a directory; set data\.video_root"):
        read_split("msrvtt", "test", root, video_root=root / "none")


def test_a_partial_download_says_how_many_and_which(root: Path) -> None:
    for number in (0, 1, 3, 4, 5):
        (root / "videos" / f"video{number}.mp4").unlink()
    with pytest.raises(UserError) as caught:
        read_split("msrvtt", "train", root)
    assert str(caught.value).startswith("5 of 6 videos are not in ")
    assert "video0.mp4, video1.mp4, video3.mp4 and 2 more. Download the rest" in str(caught.value)


def test_missing_files_are_named_by_their_path_from_the_root(tmp_path: Path) -> None:
    line = {"video": "a/b/c.mp4", "captions": ["x"], "split": "test"}
    (tmp_path / "captions.jsonl").write_text(json.dumps(line))
    with pytest.raises(UserError, match=r"^1 of 1 videos are not in .*: a/b/c.mp4\. Download the rest"):
        read_split("jsonl", "test", tmp_path)


def test_a_name_that_no_file_can_have_is_missing(tmp_path: Path) -> None:
    line = {"video": "x" * 5000 + ".mp4", "captions": ["x"], "split": "test", "id": 1}
    (tmp_path / "captions.jsonl").write_text(json.dumps(line))
    with pytest.raises(UserError, match="1 of 1 videos are not in"):
        read_split("jsonl", "test", tmp_path)


def test_a_split_without_clips_is_refused(tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text("")
    with pytest.raises(UserError, match="lists no clips of jsonl:test; add some"):
        read_split("jsonl", "test", tmp_path)


def test_too_few_clips_are_refused(root: Path) -> None:
    edit(root, lambda content: (content["videos"].pop(), content["sentences"].__delitem__(slice(0, 4))))
    with pytest.raises(UserError, match="lists 2 clips of msrvtt:test, which has 3"):
        read_split("msrvtt", "test", root)


def test_too_few_captions_are_refused(root: Path) -> None:
    edit(root, lambda content: content["sentences"].pop())
    with pytest.raises(UserError, match="does not have 4 captions for video8 of msrvtt:test"):
        read_split("msrvtt", "test", root)


def test_a_given_root_is_the_place(tmp_path: Path) -> None:
    assert dataset_root("mini", tmp_path) == tmp_path


def test_msrvtt_has_no_place_of_its_own() -> None:
    with pytest.raises(UserError, match=r"'msrvtt' has no root; set data\.root"):
        dataset_root("msrvtt", None)


@pytest.mark.skipif(importlib.util.find_spec("evlvideo.mini") is None, reason="the mini dataset is not installed")
def test_the_mini_data_set_is_built_on_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evlvideo.mini import build

    monkeypatch.setattr(build, "build_mini", lambda: tmp_path)
    assert dataset_root("mini", None) == tmp_path


def test_what_is_there_and_is_no_file_is_left_to_the_decoder(tmp_path: Path) -> None:
    """One named pipe among thousands of clips costs a clip, not the run."""
    (tmp_path / "captions.jsonl").write_text('{"video": "a.mp4", "captions": ["a"], "split": "train"}\n')
    os.mkfifo(tmp_path / "a.mp4")
    assert [clip.clip_id for clip in read_split("jsonl", "train", tmp_path)] == ["a"]


def test_a_part_is_refused_with_what_to_do_and_read_when_said_so(root: Path) -> None:
    edit(root, lambda content: content["videos"].pop())
    edit(
        root, lambda content: content.update(sentences=[s for s in content["sentences"] if s["video_id"] != "video10"])
    )
    with pytest.raises(UserError, match=r"data.check_counts=false .*--no-check-counts.*captions.jsonl"):
        read_split("msrvtt", "test", root)
    assert len(read_split("msrvtt", "test", root, check_counts=False)) == 2


def test_a_part_without_clips_is_refused_all_the_same(root: Path) -> None:
    edit(root, lambda content: content.update(videos=[], sentences=[]))
    with pytest.raises(UserError, match="lists no clips of msrvtt:test"):
        read_split("msrvtt", "test", root, check_counts=False)


def test_deviations_of_references_name_clips_and_captions(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = replace(DATASETS["msrvtt"], clips=lambda: SIZES, captions_per_clip=4)
    monkeypatch.setitem(DATASETS, "msrvtt", facts)
    whole = {f"video{number}": ["a"] * 4 for number in range(SIZES["test"])}
    assert deviations_of("msrvtt", "test", whole) == []
    assert deviations_of("msrvtt", "test", {"video8": ["a"] * 4, "video9": ["a"]}) == [
        f"The annotation lists 2 clips of msrvtt:test, which has {SIZES['test']}",
        "The annotation does not have 4 captions for video9 of msrvtt:test",
    ]


@pytest.mark.parametrize(("dataset", "split"), [("captions.json", None), ("jsonl", "test"), ("webvid", "validate")])
def test_references_without_published_counts_do_not_deviate(dataset: str, split: str | None) -> None:
    assert deviations_of(dataset, split, {"a": ["a cat"]}) == []

import json
from pathlib import Path
from typing import Any

import pytest

from evlvideo.errors import UserError
from evlvideo.evaluation.score import score_files
from evlvideo.results.reference_files import load_references, part_of_msrvtt, splits_of

OFFICIAL: dict[str, Any] = {
    "videos": [{"video_id": f"video{i}", "category": 0, "split": "train" if i < 2 else "validate"} for i in range(3)],
    "sentences": [{"sen_id": 5 - i, "video_id": f"video{i // 2}", "caption": f"caption number {i}"} for i in range(6)],
}


@pytest.fixture
def official(tmp_path: Path) -> Path:
    path = tmp_path / "both.json"
    path.write_text(json.dumps(OFFICIAL))
    return path


def test_a_split_of_the_official_file(official: Path) -> None:
    assert load_references(official, "validate") == {"video2": ["caption number 5", "caption number 4"]}
    assert list(load_references(official, "train")) == ["video0", "video1"]


def test_all_splits_where_none_is_named(official: Path) -> None:
    assert list(load_references(official)) == ["video0", "video1", "video2"]


def test_a_split_that_is_not_there(official: Path) -> None:
    with pytest.raises(UserError, match=r"no split 'test'; it has train \(2 clips\), validate \(1 clips\)"):
        load_references(official, "test")


def test_a_file_without_splits(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"1": ["a"]}')
    assert load_references(tmp_path / "r.json") == {"1": ["a"]}
    assert splits_of(tmp_path / "r.json") == {}
    with pytest.raises(UserError, match="holds no splits"):
        load_references(tmp_path / "r.json", "test")


def test_karpathys_file(tmp_path: Path) -> None:
    path = tmp_path / "dataset_coco.json"
    images = [
        {"split": name, "filepath": "v", "filename": f"{i}.jpg", "cocoid": i, "sentences": [{"raw": f"text {i}"}]}
        for i, name in enumerate(["train", "val", "test"])
    ]
    path.write_text(json.dumps({"images": images}))
    assert load_references(path, "validate") == {"1": ["text 1"]}
    with pytest.raises(UserError, match="holds several splits, and the split is None; allowed: train, validate, test"):
        load_references(path)


def test_our_own_file(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_text(json.dumps({"video": "a.mp4", "captions": ["one", "two"], "split": "test", "id": "a"}) + "\n")
    assert load_references(path, "test") == {"a": ["one", "two"]}
    with pytest.raises(UserError, match="holds no clips of the split 'train'"):
        load_references(path, "train")


def test_captions_of_one_split_are_told_of_the_others(official: Path, tmp_path: Path) -> None:
    predictions = tmp_path / "p.json"
    predictions.write_text('{"video2": "caption", "video9": "b"}')
    message = r"train \(0 of 2 clips captioned\), validate \(1 of 1 clips captioned\); 1 captions are of none.*--split"
    with pytest.raises(UserError, match=message):
        score_files(predictions, official)


def test_a_named_split_is_scored(official: Path, tmp_path: Path) -> None:
    predictions = tmp_path / "p.json"
    predictions.write_text('{"video2": "caption number 4"}')
    result = score_files(predictions, official, metrics=["rouge_l"], tokenizer="python", split="validate")
    assert (result.split, result.clips_scored, result.scores["rouge_l"]) == ("validate", 1, 1)


def test_a_part_of_msrvtts_test_split_is_told_by_its_clips() -> None:
    part = {f"video{number}": ["a cat"] * 20 for number in range(7010, 7020)}
    assert part_of_msrvtt(part) == ["The annotation lists 10 clips of msrvtt:test, which has 2990"]
    assert part_of_msrvtt({**part, "video1": ["a cat"]}) == []
    assert part_of_msrvtt({f"video{number}": ["a cat"] for number in range(10)}) == []
    assert part_of_msrvtt({f"video{number}": ["a cat"] * 20 for number in range(7010, 10_000)}) == []

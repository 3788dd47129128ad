"""Samples that lmms-eval logs are predictions."""

import json
from pathlib import Path

import pytest

from evlvideo.data.annotation.caption_files import read_pairs
from evlvideo.errors import UserError


def sample(kept: dict[str, object], answer: object) -> dict[str, object]:
    """The keys that lmms-eval 0.7.3 writes."""
    logged = {"doc_id": 0, "target": "['a dog']", "filtered_resps": answer, "token_counts": [None], "doc_hash": "1f"}
    return {**logged, "CIDEr": kept, "input": "Describe the video."}


def write(path: Path, *samples: dict[str, object]) -> Path:
    path.write_text("\n".join(map(json.dumps, samples)) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("answer", ["a dog runs", ["a dog runs"]])
@pytest.mark.parametrize("key", ["image_id", "video_id"])
def test_a_sample_is_the_caption_of_its_document(tmp_path: Path, key: str, answer: object) -> None:
    path = write(tmp_path / "samples.jsonl", sample({key: "video7010", "references": ["a dog"]}, answer))
    assert read_pairs(path) == [("video7010", "a dog runs")]


def test_a_sample_that_kept_no_id_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="entry 0"):
        read_pairs(write(tmp_path / "samples.jsonl", sample({"question": "who?"}, "a dog")))

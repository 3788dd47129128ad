import zipfile
from pathlib import Path

import pytest

from evlvideo.errors import UserError
from evlvideo.evaluation.human import human_row
from evlvideo.metrics.java import find_java
from evlvideo.metrics.names import METRICS
from evlvideo.results.records import EvaluationResult

MSRVTT = Path(__file__).parents[3] / "shared" / "data" / "msrvtt"
WITHOUT_METEOR = [metric for metric in METRICS if metric != "meteor"]


def write(root: Path, *lines: str) -> None:
    (root / "captions.jsonl").write_text("\n".join(lines) + "\n")


def test_the_first_caption_is_scored_against_the_others(tmp_path: Path) -> None:
    write(
        tmp_path,
        '{"video": "a.mp4", "captions": ["a man runs", "a man runs", "a dog"], "split": "test", "id": "a"}',
        '{"video": "b.mp4", "captions": ["a cat", "the sky", "a box is red"], "split": "test", "id": "b"}',
    )
    result = human_row("jsonl", "test", tmp_path, metrics=WITHOUT_METEOR, tokenizer="python")
    assert result.per_clip["a"]["rouge_l"] == 1
    assert result.per_clip["b"]["rouge_l"] < 0.5
    assert (result.name, result.split, result.references.captions) == ("human", "test", 4)


def test_the_result_can_be_saved(tmp_path: Path) -> None:
    write(tmp_path, '{"video": "a.mp4", "captions": ["a", "b"], "split": "test", "id": "a"}')
    result = human_row("jsonl", "test", tmp_path, metrics=["rouge_l"], tokenizer="python")
    result.save(tmp_path / "r.json")
    assert EvaluationResult.load(tmp_path / "r.json") == result


def test_one_caption_is_not_enough(tmp_path: Path) -> None:
    write(
        tmp_path,
        '{"video": "a.mp4", "captions": ["a man runs"], "split": "test", "id": "a"}',
        '{"video": "b.mp4", "captions": ["a cat", "the sky"], "split": "test", "id": "b"}',
    )
    with pytest.raises(UserError, match="1 of 2 clips of jsonl:test have one caption, such as a"):
        human_row("jsonl", "test", tmp_path)


def test_a_data_set_without_root() -> None:
    with pytest.raises(UserError, match=r"'msrvtt' has no root; .*--root"):
        human_row("msrvtt")


def test_an_unknown_data_set() -> None:
    with pytest.raises(UserError, match="'msr-vtt'; allowed: msrvtt"):
        human_row("msr-vtt")


@pytest.mark.slow
@pytest.mark.skipif(find_java() is None, reason="needs a Java runtime")
@pytest.mark.skipif(not MSRVTT.is_dir(), reason="needs the official MSR-VTT annotation")
def test_one_human_against_the_others_on_msrvtt(tmp_path: Path) -> None:
    with zipfile.ZipFile(MSRVTT / "test_videodatainfo.json.zip") as archive:
        archive.extract("test_videodatainfo.json", tmp_path)
    scores = human_row("msrvtt", "test", tmp_path, tokenizer="ptb").scores
    printed = {metric: round(100 * scores[metric], 1) for metric in ("bleu_4", "meteor", "rouge_l", "cider")}
    assert printed == {"bleu_4": 30.4, "meteor": 27.7, "rouge_l": 53.6, "cider": 43.0}

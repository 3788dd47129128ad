import json
from pathlib import Path

import pytest

from evlvideo.errors import UserError
from evlvideo.evaluation.score import score_files, score_lines
from evlvideo.metrics.names import METRICS
from evlvideo.results.records import EvaluationResult

WITHOUT_METEOR = [metric for metric in METRICS if metric != "meteor"]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    predictions, references = tmp_path / "mine.json", tmp_path / "truth.json"
    predictions.write_text(json.dumps([{"image_id": 1, "caption": "A man."}, {"image_id": 2, "caption": "a dog"}]))
    references.write_text(json.dumps({"1": ["a man", "someone"], "2": ["the dog is here"]}))
    return predictions, references


def test_files_are_scored_with_what_they_depend_on(files: tuple[Path, Path]) -> None:
    result = score_files(*files, metrics=WITHOUT_METEOR, tokenizer="python")
    assert result.name == "mine"
    assert result.dataset == "truth.json"
    assert result.references.captions == 3
    assert (result.clips_scored, result.clips_expected) == (2, 2)
    assert result.per_clip["1"]["rouge_l"] == 1
    assert result.versions["python"]


def test_mismatch_is_an_error(files: tuple[Path, Path]) -> None:
    files[0].write_text(json.dumps({"1": "a man"}))
    with pytest.raises(UserError, match="1 of 2 clips have no caption: 2"):
        score_files(*files)


def test_lines_say_why_a_metric_is_missing(files: tuple[Path, Path]) -> None:
    result = score_files(*files, metrics=WITHOUT_METEOR, tokenizer="python")
    result.skipped["meteor"] = "no Java"
    lines = score_lines(result)
    assert lines[4].split() == ["METEOR", "–", "(no", "Java)"]
    assert lines[-1] == "2 of 2 clips, 3 references, tokenizer python"


def test_the_record_and_the_lines_say_what_scores_are_worth(tmp_path: Path) -> None:
    predictions, references = tmp_path / "mine.json", tmp_path / "truth.json"
    predictions.write_text(json.dumps({"1": "一个男人在弹吉他", "2": "狗在跑"}))
    references.write_text(json.dumps({"1": ["男人在弹吉他"], "2": ["狗在草地上跑"]}))
    by_words = score_files(predictions, references, metrics=WITHOUT_METEOR, tokenizer="python")
    assert any(
        line.startswith("NOTE: 2 of 2 references are in a script without spaces") for line in score_lines(by_words)
    )
    by_characters = score_files(predictions, references, metrics=WITHOUT_METEOR, tokenizer="characters")
    assert by_characters.scores["cider"] > by_words.scores["cider"] == 0
    by_characters.save(tmp_path / "result.json")
    stored = EvaluationResult.load(tmp_path / "result.json")
    assert (stored.tokenizer, stored.remarks) == ("characters", by_characters.remarks)
    assert "tokenizer characters" in "\n".join(score_lines(stored))


def test_one_clip_has_no_cider_and_is_told_why(tmp_path: Path) -> None:
    predictions, references = tmp_path / "mine.json", tmp_path / "truth.json"
    predictions.write_text('{"1": "a man"}')
    references.write_text('{"1": ["a man", "a boy"]}')
    result = score_files(predictions, references, metrics=["cider"], tokenizer="python")
    assert result.scores == {"cider": 0}
    assert "CIDEr is 0 for any caption of a single clip" in "\n".join(score_lines(result))

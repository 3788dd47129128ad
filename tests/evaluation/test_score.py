import json
from pathlib import Path

import pytest
from rich.console import Console

from evlvideo.errors import UserError
from evlvideo.evaluation.score import score_files, score_lines, score_table
from evlvideo.metrics.names import METRICS, format_score

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


def test_scores_print_times_100_with_one_decimal() -> None:
    assert [format_score(value) for value in (0.7402, 1.582, 0.0, None)] == ["74.0", "158.2", "0.0", "–"]


def test_lines_say_why_a_metric_is_missing(files: tuple[Path, Path]) -> None:
    result = score_files(*files, metrics=WITHOUT_METEOR, tokenizer="python")
    result.skipped["meteor"] = "no Java"
    lines = score_lines(result)
    assert lines[4].split() == ["METEOR", "–", "(no", "Java)"]
    assert lines[-1] == "2 of 2 clips, 3 references, tokenizer python"


def test_table_shows_names_as_they_are(files: tuple[Path, Path]) -> None:
    result = score_files(*files, name="[bold]mean", metrics=WITHOUT_METEOR, tokenizer="python")
    result.skipped["meteor"] = "no Java"
    console = Console(width=120)
    with console.capture() as captured:
        console.print(score_table([result]))
    text = captured.get()
    assert "[bold]mean" in text
    assert "METEOR: no Java" in text

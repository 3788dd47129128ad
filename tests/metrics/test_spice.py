"""SPICE's program itself is not tested: its models cannot be had here. What stands around it is."""

import sys
from pathlib import Path

import pytest

from evlvideo.errors import UserError
from evlvideo.metrics import scoring as metrics
from evlvideo.metrics import spice
from evlvideo.metrics.scoring import score_captions

HYPOTHESES = {0: ["a man sings"], 1: ["a dog runs"]}
REFERENCES = {0: ["a man sings a song", "he sings"], 1: ["a dog is running"]}
PROGRAM = """#!{python}
import json, math, pathlib, sys
source, out = sys.argv[sys.argv.index("spice-1.0.jar") + 1], sys.argv[sys.argv.index("-out") + 1]
asked = json.loads(pathlib.Path(source).read_text())
assert pathlib.Path("lib").is_dir(), "not in the program's folder"
{body}
"""
GOOD = """
scores = [{"image_id": one["image_id"], "scores": {"All": {"f": len(one["refs"]) / 4}}} for one in reversed(asked)]
pathlib.Path(out).write_text(json.dumps(scores))
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A folder like pycocoevalcap's, with empty models."""
    (tmp_path / "spice" / "lib").mkdir(parents=True)
    for name in spice._MODELS:
        (tmp_path / "spice" / "lib" / name).touch()
    return tmp_path / "spice"


def program(monkeypatch: pytest.MonkeyPatch, directory: Path, body: str) -> None:
    """Put a program in the place of Java."""
    path = directory.parent / "java"
    path.write_text(PROGRAM.replace("{python}", sys.executable).replace("{body}", body))
    path.chmod(0o755)
    monkeypatch.setattr(spice, "find_java", lambda: path)


def test_scores_come_back_in_the_order_of_the_captions(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    program(monkeypatch, directory, GOOD)
    assert spice.spice(HYPOTHESES, REFERENCES, directory=directory) == (0.375, [0.5, 0.25])


def test_a_score_that_is_no_number_is_zero(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    program(monkeypatch, directory, GOOD.replace('len(one["refs"]) / 4', '0.5 if one["image_id"] else math.nan'))
    assert spice.spice(HYPOTHESES, REFERENCES, directory=directory) == (0.25, [0.0, 0.5])


@pytest.mark.parametrize(
    "body, reason",
    [
        ("sys.exit('Exception in thread main')", "its Java program failed: Exception in thread main"),
        ("", "its Java program failed: status 0"),
        ("pathlib.Path(out).write_text('[]')", "no list of scores"),
        ("pathlib.Path(out).write_text('no json')", "no list of scores"),
        ("import time; time.sleep(60)", "took more than 2 seconds"),
    ],
)
def test_a_program_that_fails_is_a_reason(
    monkeypatch: pytest.MonkeyPatch, directory: Path, body: str, reason: str
) -> None:
    program(monkeypatch, directory, body)
    found = spice.spice(HYPOTHESES, REFERENCES, directory=directory, limit_seconds=0 if "sleep" in body else 60)
    assert isinstance(found, str) and reason in found


def test_without_models_it_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    program(monkeypatch, directory, GOOD)
    (directory / "lib" / spice._MODELS[1]).unlink()
    found = spice.spice(HYPOTHESES, REFERENCES, directory=directory)
    assert isinstance(found, str) and "get_stanford_models" in found and "\n" not in found


def test_without_java_it_says_so(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setattr(spice, "find_java", lambda: None)
    assert spice.spice(HYPOTHESES, REFERENCES, directory=directory) == spice.NO_JAVA


def test_spice_is_scored_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    captions, references = {"x": "a man sings"}, {"x": ["a man sings"]}
    monkeypatch.setattr(metrics, "spice", lambda hypotheses, references: (0.5, [0.5]))
    without = score_captions(captions, references, ("cider",), "python")
    asked = score_captions(captions, references, ("cider", "spice"), "python")
    assert "spice" not in without.corpus and "spice" not in without.skipped
    assert asked.corpus["spice"] == asked.per_clip["x"]["spice"] == 0.5


def test_spice_that_cannot_run_leaves_the_other_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "spice", lambda hypotheses, references: "no models")
    scores = score_captions({"x": "a man sings"}, {"x": ["a man sings"]}, ("bleu_1", "spice"), "python")
    assert scores.corpus == {"bleu_1": pytest.approx(1)} and scores.skipped == {"spice": "no models"}


def test_an_unknown_metric_is_answered_with_spice_among_those_there_are() -> None:
    with pytest.raises(UserError, match=r"Unknown metrics: bertscore; allowed: .*cider, spice"):
        score_captions({"x": "a"}, {"x": ["a"]}, ("bertscore",))

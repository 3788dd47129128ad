import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evlvideo.errors import UserError
from evlvideo.metrics.references_digest import references_digest
from evlvideo.results import provenance
from evlvideo.results.prediction_files import read_predictions, write_predictions
from evlvideo.results.provenance import git_commit, versions
from evlvideo.results.records import EvaluationResult, describe_references

REFERENCES = {"one": ["a man", "someone"], "two": ["a dog"]}


def example() -> EvaluationResult:
    return EvaluationResult(
        name="mean",
        dataset="mini",
        split="test",
        references=describe_references("mini:test", REFERENCES),
        tokenizer="ptb",
        scores={"cider": 1 / 3},
        per_clip={"one": {"cider": 2 / 3}, "two": {"cider": 0.0}},
        clips_scored=2,
        clips_expected=2,
        skipped={"meteor": "no Java"},
        evidence_scores={"one_frame": {"cider": 0.5}},
        evidence_clips={"one_frame": 2},
        decoding={"num_beams": 5},
        versions=versions(),
        commit="abc",
        seed=3,
        checkpoint="runs/mean",
        trained_parameters=10,
        training_seconds=1.5,
    )


def test_result_survives_a_file(tmp_path: Path) -> None:
    path = tmp_path / "evaluation" / "result.json"
    example().save(path)
    assert EvaluationResult.load(path) == example()


def test_a_file_from_before_captioning_was_timed_is_read(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    example().save(path)
    content = json.loads(path.read_text())
    for name in ("captioning_seconds", "captioning_clips"):
        del content[name]
    path.write_text(json.dumps(content))
    assert EvaluationResult.load(path).clips_per_second is None


def test_clips_a_second_are_those_that_were_captioned_in_the_time() -> None:
    timed = replace(example(), captioning_seconds=4.0, captioning_clips=2)
    assert timed.clips_per_second == 0.5
    assert timed == replace(timed, captioning_seconds=5.0)
    assert replace(timed, captioning_seconds=0.0).clips_per_second is None


def changed(path: Path, **changes: Any) -> Path:
    example().save(path)
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "drop"}))
    return path


def test_unknown_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"schema is 'other-9', and 'evlvideo-result-1' is expected"):
        EvaluationResult.load(changed(tmp_path / "result.json", schema="other-9"))


def test_list_is_no_result(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("[]")
    with pytest.raises(UserError, match="is not a result file"):
        EvaluationResult.load(tmp_path / "result.json")


def test_missing_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a complete result file.*tokenizer"):
        EvaluationResult.load(changed(tmp_path / "result.json", tokenizer="drop"))


def test_missing_references_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a complete result file.*references"):
        EvaluationResult.load(changed(tmp_path / "result.json", references="drop"))


def test_unknown_field_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown fields: extra"):
        EvaluationResult.load(changed(tmp_path / "result.json", extra=1))


def test_missing_result(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        EvaluationResult.load(tmp_path / "result.json")


@pytest.mark.parametrize(
    "content",
    [
        [{"image_id": 1, "caption": "a man"}, {"image_id": 2, "caption": "a dog"}],
        [{"video_id": "1", "caption": "a man"}, {"id": 2, "caption": "a dog", "score": 0.1}],
        {"1": "a man", "2": "a dog"},
    ],
)
def test_forms_of_predictions(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(content))
    assert read_predictions(path) == {"1": "a man", "2": "a dog"}


def test_predictions_survive_a_file(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.json", {"video1": "a “man”"})
    assert read_predictions(tmp_path / "p.json") == {"video1": "a “man”"}
    assert json.loads((tmp_path / "p.json").read_text()) == [{"image_id": "video1", "caption": "a “man”"}]


def test_two_captions_for_a_clip_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps([{"id": i % 12, "caption": "a"} for i in range(24)]))
    with pytest.raises(UserError, match=r"more than one caption for 12 clips: 0 \(2\), 1 \(2\), .*9 \(2\), …\."):
        read_predictions(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('"text"', "neither a list nor a mapping"),
        ('[{"caption": "a man"}]', "entry 0 is"),
        ('["a man"]', "entry 0 is 'a man'"),
        ('{"1": 7}', "the caption of '1' is 7"),
        ('[{"id": 1, "caption": null}]', "the caption of 1 is None"),
        ("{", "is not a JSON file"),
    ],
)
def test_wrong_predictions(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_predictions(path)


def test_digest_knows_every_text_and_no_order_of_clips() -> None:
    assert references_digest(REFERENCES) == references_digest(dict(reversed(REFERENCES.items())))
    assert references_digest(REFERENCES) != references_digest({"one": ["a man"], "two": ["someone", "a dog"]})
    assert references_digest(REFERENCES) != references_digest({"one": ["a mansomeone"], "two": ["a dog"]})


def test_versions_import_nothing_heavy() -> None:
    script = (
        "import sys; from evlvideo.results.provenance import versions; found = versions(); "
        "assert {'python', 'torch', 'pycocoevalcap'} <= set(found), found; "
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2])


def repository(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = root / "evlvideo"
    (package / "results").mkdir(parents=True)
    source = package / "results" / "results.py"
    source.write_text("")
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "-m", "first"],
    ):
        subprocess.run(["git", *command], cwd=root, check=True)
    monkeypatch.setattr(provenance, "__file__", str(source))
    return package


def test_commit_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = repository(tmp_path, monkeypatch)
    commit = git_commit()
    assert commit is not None and len(commit) == 40
    (tmp_path / "notes.txt").write_text("not code")
    assert git_commit() == commit
    (package / "new.py").write_text("")
    assert git_commit() == f"{commit}-dirty"


def test_package_inside_another_repository_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(tmp_path, monkeypatch)
    installed = tmp_path / "venv" / "evlvideo" / "results" / "provenance.py"
    installed.parent.mkdir(parents=True)
    installed.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert git_commit() is None

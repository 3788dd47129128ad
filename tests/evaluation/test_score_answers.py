import json
from pathlib import Path
from typing import Any

import pytest
from question_files import gqa_question, vqa_annotation, write_gqa, write_vqa, write_vqa_annotations
from typer.testing import CliRunner

from evlvideo.cli.app import app
from evlvideo.errors import UserError
from evlvideo.evaluation import score_answers as scoring
from evlvideo.evaluation.score_answers import answer_lines, score_answer_file
from evlvideo.results.answer_records import AnswerResult

OF_VQA = ["--dataset", "vqav2", "--no-check-counts"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Questions 5 and 7, where three of ten wrote `a0` in answer to 7."""
    write_vqa(tmp_path, "val2014", [5, 7])
    texts = ["a0"] * 3 + ["a1"] * 7
    seven = vqa_annotation(7, answers=[{"answer": text} for text in texts], answer_type="number")
    write_vqa_annotations(tmp_path, "val2014", [vqa_annotation(5), seven])
    return tmp_path


@pytest.fixture
def answers(root: Path) -> Path:
    return write_predictions(root, {5: "A0.", 7: "a0"})


def write_predictions(root: Path, predictions: dict[int, str]) -> Path:
    path = root / "answers.json"
    content = [{"question_id": number, "answer": answer} for number, answer in predictions.items()]
    path.write_text(json.dumps(content))
    return path


def score(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["score-answers", *map(str, arguments)])


def test_vqav2_is_scored_in_both_forms(root: Path, answers: Path) -> None:
    result = score_answer_file(answers, "vqav2", root, check_counts=False)
    assert result.name == "answers"
    assert {name: score.value for name, score in result.scores.items()} == {
        "vqa_accuracy": pytest.approx(0.6),
        "vqa_accuracy_lavis": pytest.approx(0.6),
    }
    assert result.per_question["7"] == {"vqa_accuracy": 0.9, "vqa_accuracy_lavis": 0.9}
    assert result.answer_types["number"]["vqa_accuracy"].questions == 1
    assert result.deviations == ["The annotation lists 2 questions of vqav2:validate, which has 214354"]


def test_a_result_is_read_as_it_was_written(root: Path, answers: Path) -> None:
    result = score_answer_file(answers, "vqav2", root, check_counts=False)
    result.save(root / "result.json")
    assert AnswerResult.load(root / "result.json") == result


@pytest.mark.parametrize(
    ("content", "message"),
    [({"schema": "evlvideo-result-1"}, "its schema is 'evlvideo-result-1'"), ([], "its schema is None")],
)
def test_results_of_captions_are_not_results_of_answers(tmp_path: Path, content: Any, message: str) -> None:
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        AnswerResult.load(tmp_path / "result.json")


def test_the_lines_name_the_form_of_each_score(root: Path, answers: Path) -> None:
    lines = answer_lines(score_answer_file(answers, "vqav2", root, check_counts=False), question_types=True)
    assert lines[0].startswith("VQA accuracy (official)   60.00  [30.00, 90.00]  2 questions")
    assert lines[1].startswith("VQA accuracy (LAVIS)      60.00")
    assert "  number       1 questions: VQA accuracy (official) 90.00, VQA accuracy (LAVIS) 90.00" in lines
    assert "answers: 0.0 % empty, 0.0 % longer than each reference" in lines
    assert "compare with no published number" in lines[-1]


def test_okvqa_is_scored_with_lemmas_where_they_are_installed(
    root: Path, answers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("OpenEnded_mscoco_val2014_questions", "mscoco_val2014_annotations"):
        (root / f"v2_{kind}.json").rename(root / f"{kind}.json")
    monkeypatch.setattr(scoring, "lemmas_are_installed", lambda: False)
    without = score_answer_file(answers, "okvqa", root, check_counts=False)
    assert "spacy download en_core_web_sm" in without.skipped["lemmas"]
    assert any("spacy download" in line for line in answer_lines(without))
    monkeypatch.setattr(scoring, "lemmas_are_installed", lambda: True)
    monkeypatch.setattr("evlvideo.metrics.answers.scores.lemmatized", lambda answers: dict.fromkeys(answers, "a1"))
    both = score_answer_file(answers, "okvqa", root, check_counts=False)
    assert both.scores["vqa_accuracy"] == without.scores["vqa_accuracy"]
    assert both.scores["vqa_accuracy_lemmas"].value == pytest.approx((0.3 + 1.0) / 2)


def test_gqa_tells_binary_from_open_questions(tmp_path: Path) -> None:
    write_gqa(tmp_path, {"1": gqa_question(), "2": gqa_question(answer="red", types={"structural": "query"})})
    path = tmp_path / "answers.json"
    path.write_text(json.dumps({"1": "No.", "2": "blue"}))
    done = score(path, "--dataset", "gqa", "--root", tmp_path, "--no-check-counts")
    assert done.exit_code == 0, done.output
    assert [line.split()[:3] for line in done.output.splitlines()[:3]] == [
        ["GQA", "accuracy", "50.00"],
        ["GQA", "binary", "100.00"],
        ["GQA", "open", "0.00"],
    ]


def test_the_command_writes_a_result_and_a_submission(root: Path, answers: Path) -> None:
    out, submission = root / "out" / "result.json", root / "out" / "submission.json"
    done = score(answers, *OF_VQA, "--root", root, "--out", out, "--submission", submission)
    assert done.exit_code == 0, done.output
    assert AnswerResult.load(out).questions == 2
    assert json.loads(submission.read_text()) == [
        {"question_id": 5, "answer": "A0."},
        {"question_id": 7, "answer": "a0"},
    ]


def test_a_test_set_is_not_scored_but_prepared_for_the_server(root: Path) -> None:
    (root / "v2_OpenEnded_mscoco_val2014_questions.json").rename(root / "v2_OpenEnded_mscoco_test2015_questions.json")
    answers = write_predictions(root, {7: "b", 5: "a"})
    to_test = [answers, *OF_VQA, "--root", root, "--split", "test"]
    refused = score(*to_test, "--out", root / "result.json")
    assert "vqav2:test has no answers to score against; write a file for the server" in str(refused.exception)
    assert not (root / "result.json").exists()
    done = score(*to_test, "--submission", root / "out.json")
    assert done.output == f"2 answers are in {root / 'out.json'}.\n"
    assert [entry["question_id"] for entry in json.loads((root / "out.json").read_text())] == [5, 7]


@pytest.mark.parametrize(
    ("predictions", "arguments", "message"),
    [
        ({5: "a"}, [], "1 of 2 questions have no prediction: 7"),
        ({5: "a", 7: "b", 9: "c"}, [], "1 of 3 predictions are for no question: 9"),
        ({5: "a", 7: "b"}, ["--metric", "em"], "The metric is 'em'; allowed: vqa, vqa_lavis"),
        ({5: "a", 7: "b"}, ["--lemmatizer", "nltk"], "The lemmatizer is 'nltk'; allowed: none, spacy"),
        ({5: "a", 7: "b"}, ["--metric", "gqa"], "Question 5 has 10 answers, and GQA's accuracy needs one"),
        ({5: "a", 7: "b"}, ["--split", "val"], "has no split 'val'; allowed: train, validate"),
        ({5: "a", 7: "b"}, ["--check-counts"], "lists 2 questions of vqav2:validate, which has 214354"),
    ],
)
def test_a_mistake_is_a_sentence_and_nothing_is_written(
    root: Path, predictions: dict[int, str], arguments: list[str], message: str
) -> None:
    path = write_predictions(root, predictions)
    outputs = ["--out", root / "out" / "result.json", "--submission", root / "out" / "submission.json"]
    done = score(path, *OF_VQA, "--root", root, *outputs, *arguments)
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
    assert not (root / "out").exists()


def test_fewer_than_ten_answers_are_refused_by_question(root: Path, answers: Path) -> None:
    write_vqa_annotations(root, "val2014", [vqa_annotation(5), vqa_annotation(7, answers=[{"answer": "a"}])])
    with pytest.raises(UserError, match="Question 7 has 1 answers, and VQA accuracy needs ten"):
        score_answer_file(answers, "vqav2", root, check_counts=False)

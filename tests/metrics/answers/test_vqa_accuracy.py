"""VQA accuracy in both forms equals that of the evaluators it comes from."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from asked import asked

from evlvideo.data.annotation.question import Question
from evlvideo.errors import UserError
from evlvideo.metrics.answers.measures import consensus, vqa, vqa_lavis
from evlvideo.metrics.answers.normalization import CONTRACTIONS, normalized, one_line
from evlvideo.metrics.answers.scores import AnswerMetric, Means, score_answers

CASES = Path(os.environ.get("EVLVIDEO_PARITY_CASES") or Path(__file__).parents[2] / "fixtures")
FILES = sorted(CASES.rglob("answers.json"))
FORMS: list[tuple[AnswerMetric, str, str]] = [
    ("vqa", "official", "accuracy"),
    ("vqa_lavis", "lavis", "accuracy_lavis"),
]


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.parent.name)
def content(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(request.param.read_text(encoding="utf-8"))
    return loaded


def question_of(case: dict[str, Any]) -> Question:
    return asked(str(case["question_id"]), tuple(case["ground_truths"]), case["answer_type"], case["question_type"])


def percent(by_type: dict[str, Means]) -> dict[str, float]:
    return {name: round(100 * score.value, 2) for name, means in by_type.items() for score in means.values()}


def test_there_are_cases() -> None:
    assert FILES, f"{CASES} holds no answers.json"


def test_answers_are_normalized_as_in_the_reference(content: dict[str, Any]) -> None:
    found = {case["question_id"]: normalized(one_line(case["answer"])) for case in content["cases"]}
    assert found == {case["question_id"]: case["normalized_answer"] for case in content["cases"]}


@pytest.mark.parametrize(("metric", "form", "key"), FORMS)
def test_each_accuracy_equals_the_reference(content: dict[str, Any], metric: AnswerMetric, form: str, key: str) -> None:
    measure = {"vqa": vqa, "vqa_lavis": vqa_lavis}[metric]
    found = [next(iter(measure(case["answer"], question_of(case)).values())) for case in content["cases"]]
    assert found == [case[key] for case in content["cases"]]


@pytest.mark.parametrize(("metric", "form", "key"), FORMS)
def test_totals_equal_the_reference(content: dict[str, Any], metric: AnswerMetric, form: str, key: str) -> None:
    predictions = {str(case["question_id"]): case["answer"] for case in content["cases"]}
    scores = score_answers(predictions, list(map(question_of, content["cases"])), metric=metric)
    expected = content["overall"][form]
    (overall,) = scores.overall.values()
    assert round(100 * overall.value, 2) == expected["overall"]
    assert percent(scores.answer_types) == expected["perAnswerType"]
    assert percent(scores.question_types) == expected["perQuestionType"]


@pytest.mark.parametrize(("matches", "accuracy"), [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
def test_accuracy_leaves_each_annotator_out(matches: int, accuracy: float) -> None:
    assert consensus("yes", ["yes"] * matches + ["no"] * (10 - matches)) == accuracy


def test_equal_references_are_compared_as_they_are() -> None:
    assert vqa("Yes", asked("1", ("yes",) * 10)) == {"vqa_accuracy": 0.0}
    assert vqa_lavis("Yes", asked("1", ("yes",) * 10)) == {"vqa_accuracy_lavis": 1.0}


def test_only_the_first_32_periods_are_deleted() -> None:
    assert normalized("a" + "." * 33 + "b") == "a.b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yall'd've", "y'all'd've"),
        ("couldntve", "couldntve"),
        ("somebody'd", "somebodyd"),
        ("'ow'sat", "'ow's'at"),
        ("its", "its"),
        ("dont", "don't"),
    ],
)
def test_words_that_lack_one_apostrophe_get_it(text: str, expected: str) -> None:
    assert normalized(text) == expected


def test_the_source_has_as_many_contractions() -> None:
    without_effect = {"let's", "she's", "Im", "Ive", "Id've", "I'dve"}
    assert len(CONTRACTIONS) + len(without_effect) == 120


@pytest.mark.parametrize("measure", [vqa, vqa_lavis])
def test_accuracy_needs_ten_answers(measure: Any) -> None:
    with pytest.raises(UserError, match=r"Question 7 has 3 answers, and VQA accuracy needs ten.*exact"):
        measure("yes", asked("7", ("yes",) * 3))

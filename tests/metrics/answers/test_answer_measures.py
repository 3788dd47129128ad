import pytest
from asked import asked

from evlvideo.errors import UserError
from evlvideo.metrics.answers.measures import exact, gqa, pathvqa


def test_gqa_normalizes_the_answer_but_not_the_reference() -> None:
    assert gqa("The Dog.", asked("1", ("dog",), "open")) == {"gqa_accuracy": 1.0, "gqa_open": 1.0}
    assert gqa("dog", asked("1", ("The Dog",), "open")) == {"gqa_accuracy": 0.0, "gqa_open": 0.0}


def test_gqa_without_types_has_one_accuracy() -> None:
    assert gqa("yes", asked("1", ("yes",))) == {"gqa_accuracy": 1.0}


def test_gqa_has_one_answer() -> None:
    with pytest.raises(UserError, match=r"Question 1 has 2 answers, and GQA's accuracy needs one"):
        gqa("yes", asked("1", ("yes", "no")))


@pytest.mark.parametrize(("answer", "score"), [("Yes.", 1.0), ("yes it is", 0.0), ("nodule", 0.0), ("", 0.0)])
def test_the_whole_answer_to_a_closed_question_counts(answer: str, score: float) -> None:
    assert pathvqa(answer, asked("1", ("yes",))) == {"closed_accuracy": score}
    assert pathvqa("nodule", asked("1", ("no",))) == {"closed_accuracy": 0.0}


def test_open_answers_are_compared_by_words() -> None:
    found = pathvqa("The necrotic liver, liver", asked("1", ("necrotic liver tissue",)))
    assert found["open_exact_match"] == 0.0
    assert found["open_word_f1"] == pytest.approx(2 * 2 / (4 + 3))
    assert found["open_word_recall"] == pytest.approx(2 / 3)


def test_an_open_answer_is_exact_without_case_and_punctuation() -> None:
    found = pathvqa("Necrotic-liver!", asked("1", ("necrotic liver",)))
    assert found == {"open_exact_match": 1.0, "open_word_f1": 1.0, "open_word_recall": 1.0}


def test_an_empty_open_answer_scores_nothing() -> None:
    assert set(pathvqa(" ", asked("1", ("liver",))).values()) == {0.0}


@pytest.mark.parametrize(("answer", "score"), [("Playing  guitar.", 1.0), ("sing", 1.0), ("a guitar", 0.0), ("", 0.0)])
def test_an_exact_answer_equals_any_reference(answer: str, score: float) -> None:
    assert exact(answer, asked("1", ("playing guitar", "sing"))) == {"exact_match": score}

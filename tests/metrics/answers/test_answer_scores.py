import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from asked import asked

from evlvideo.errors import UserError
from evlvideo.metrics.answers import lemmas
from evlvideo.metrics.answers.scores import score_answers

QUESTIONS = [
    asked("1", ("yes",), "binary", "verify"),
    asked("2", ("red",), "open", "query"),
    asked("3", ("left side",), "open", "query"),
]


def test_each_score_is_the_mean_over_the_questions_it_applies_to() -> None:
    scores = score_answers({"1": "yes", "2": "blue", "3": "left side"}, QUESTIONS, metric="gqa")
    assert scores.overall["gqa_accuracy"].value == pytest.approx(2 / 3)
    assert scores.overall["gqa_binary"] == (1.0, 1.0, 1.0, 1)
    assert scores.overall["gqa_open"][::3] == (0.5, 2)
    assert scores.question_types["query"]["gqa_accuracy"].value == 0.5
    assert scores.answer_types["binary"].keys() == {"gqa_accuracy", "gqa_binary"}
    assert scores.per_question["1"] == {"gqa_accuracy": 1.0, "gqa_binary": 1.0}


def test_questions_without_types_are_in_no_type() -> None:
    scores = score_answers({"1": "a"}, [asked("1", ("a",))], metric="exact")
    assert scores.answer_types == scores.question_types == {}


def test_shares_count_empty_long_and_cut_off_answers() -> None:
    answers = {"1": "yes it is", "2": " ", "3": "left side"}
    scores = score_answers(answers, QUESTIONS, metric="exact", cut_off={"3"})
    assert scores.shares == pytest.approx({"empty": 1 / 3, "over_long": 1 / 3, "cut_off": 1 / 3})
    assert "cut_off" not in score_answers(answers, QUESTIONS, metric="exact").shares


def test_missing_and_extra_predictions_are_listed() -> None:
    with pytest.raises(
        UserError, match=r"2 of 3 questions have no prediction: 2, 3; 1 predictions answer no question of the split: 9"
    ):
        score_answers({"1": "yes", "9": "no"}, QUESTIONS, metric="gqa")


def test_a_test_set_without_answers_is_not_scored() -> None:
    with pytest.raises(UserError, match=r"1 of 1 questions have no answers .*server"):
        score_answers({"1": "yes"}, [asked("1", ())], metric="exact")


def test_no_questions_are_not_scored() -> None:
    with pytest.raises(UserError, match="no questions"):
        score_answers({}, [], metric="exact")


@pytest.mark.parametrize(("names", "what"), [({"metric": "em"}, "metric"), ({"lemmatizer": "nltk"}, "lemmatizer")])
def test_unknown_names_are_refused_with_the_known_ones(names: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError, match=f"The {what} is .*allowed: "):
        score_answers({}, QUESTIONS, **({"metric": "exact"} | names))


@pytest.fixture
def spacy_is(monkeypatch: pytest.MonkeyPatch) -> Any:
    def replace(load: Any) -> None:
        module = ModuleType("spacy")
        module.load = load  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "spacy", module)

    lemmas._model.cache_clear()
    yield replace
    lemmas._model.cache_clear()


def toy_model(name: str) -> Any:
    """Ends of words are dropped, as nouns and verbs lose them; `the` is neither."""

    def token(word: str) -> Any:
        return SimpleNamespace(text=word, lemma_=word.removesuffix("s"), pos_="DET" if word == "this" else "NOUN")

    return SimpleNamespace(pipe=lambda texts: ([token(word) for word in text.split()] for text in texts))


def test_lemmas_replace_nouns_and_verbs_of_predictions_alone(spacy_is: Any) -> None:
    spacy_is(toy_model)
    questions = [asked("1", ("this dog",)), asked("2", ("cats",))]
    predictions = {"1": "this dogs", "2": "cats"}
    assert score_answers(predictions, questions, metric="exact").overall["exact_match"].value == 0.5
    scores = score_answers(predictions, questions, metric="exact", lemmatizer="spacy")
    assert scores.per_question == {"1": {"exact_match": 1.0}, "2": {"exact_match": 0.0}}
    assert scores.lemmatizer == "spacy"


def test_without_the_model_one_line_says_how_to_get_it(spacy_is: Any) -> None:
    def missing(name: str) -> Any:
        raise OSError(f"[E050] Can't find model '{name}'.")

    spacy_is(missing)
    with pytest.raises(UserError, match=r"get it with `pip install .* spacy download en_core_web_sm`"):
        score_answers({"1": "a"}, [asked("1", ("a",))], metric="exact", lemmatizer="spacy")

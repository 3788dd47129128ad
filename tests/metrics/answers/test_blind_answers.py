"""Answers without a look at the picture."""

from asked import asked

from evlvideo.metrics.answers.blind import blind_answers


def question(name: str, kind: str | None, *answers: str) -> object:
    return asked(name, answers, question_type=kind)


def test_a_question_gets_the_most_frequent_answer_of_its_type() -> None:
    trained = [
        question("1", "is the", "yes", "yes", "no"),
        question("2", "is the", "no", "no", "no"),
        question("3", "how many", "2", "2", "3"),
    ]
    found = blind_answers(trained, [question("a", "is the"), question("b", "how many")])
    assert found == {"a": "no", "b": "2"}


def test_a_type_that_training_lacks_gets_the_most_frequent_answer_of_all() -> None:
    trained = [question("1", "is the", "yes", "yes"), question("2", "how many", "2")]
    assert blind_answers(trained, [question("a", "what"), question("b", None)]) == {"a": "yes", "b": "yes"}


def test_ties_do_not_depend_on_the_order() -> None:
    trained = [question("1", "what", "star", "box")]
    assert blind_answers(trained, [question("a", "what")]) == {"a": "box"}


def test_without_answers_to_learn_from_there_are_empty_ones() -> None:
    assert blind_answers([], [question("a", "what")]) == {"a": ""}

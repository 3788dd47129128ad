"""Questions about pictures: their answers, and what can be guessed without looking."""

import random
from collections import Counter, defaultdict

import pytest

from evlvideo.mini.images.build import sample_item
from evlvideo.mini.images.questions import ANNOTATORS, NUMBER, OTHER, YES_NO, AskedQuestion
from evlvideo.mini.world import COLOURS


@pytest.fixture(scope="module")
def asked() -> list[tuple[int, AskedQuestion]]:
    return [(index, question) for index in range(480) for question in sample_item("test", index).questions]


def of_type(asked: list[tuple[int, AskedQuestion]], question_type: str) -> list[AskedQuestion]:
    return [question for _, question in asked if question.question_type == question_type]


def test_every_question_has_ten_answers_that_mostly_agree(asked: list[tuple[int, AskedQuestion]]) -> None:
    for _, question in asked:
        assert len(question.answers) == ANNOTATORS
        assert question.answers.count(question.most_common) >= 5
    agreed = [question.answers.count(question.most_common) for _, question in asked]
    assert 8.8 < sum(agreed) / len(agreed) < 9.7


def test_all_three_answer_types_are_asked(asked: list[tuple[int, AskedQuestion]]) -> None:
    counts = Counter(question.answer_type for _, question in asked)
    assert counts == {YES_NO: 480, NUMBER: 160, OTHER: 800}


@pytest.mark.parametrize("question_type", ["is there a", "is the", "is this"])
def test_half_of_the_yes_no_questions_of_each_type_have_the_answer_yes(
    asked: list[tuple[int, AskedQuestion]], question_type: str
) -> None:
    answers = Counter(question.most_common for question in of_type(asked, question_type))
    assert set(answers) == {"yes", "no"}
    assert answers["yes"] == pytest.approx(answers["no"], rel=0.1)


def test_the_most_frequent_answers_are_mostly_wrong(asked: list[tuple[int, AskedQuestion]]) -> None:
    answers = defaultdict(Counter)
    for _, question in asked:
        answers[question.question_type][question.most_common] += 1
    blind = sum(counted.most_common(1)[0][1] for counted in answers.values()) / len(asked)
    assert blind < 0.36


def test_answers_are_what_the_picture_shows(asked: list[tuple[int, AskedQuestion]]) -> None:
    for index, question in asked:
        scene = sample_item("test", index).scene
        if question.question_type == "how many":
            assert question.most_common == str(len(scene.items))
        if question.question_type == "what color is the":
            assert question.most_common in {item.colour for item in scene.items}
        if question.question_type == "is there a":
            words = set(question.text.strip("?").split())
            there = any(item.colour in words and item.shape in words for item in scene.items)
            assert question.most_common == ("yes" if there else "no")


def test_left_and_right_are_those_of_the_picture(asked: list[tuple[int, AskedQuestion]]) -> None:
    checked = 0
    for index, question in asked:
        words = question.text.strip("?").split()
        if "to" in words and ("left" in words or "right" in words):
            scene = sample_item("test", index).scene
            x = {item.shape: item.x for item in scene.items}
            on_left = x[words[2]] < x[words[-1]]
            assert (question.most_common == "yes") == (on_left == ("left" in words))
            checked += 1
    assert checked > 40


def test_a_wrong_colour_is_asked_for_as_often_as_any() -> None:
    rng = random.Random(0)
    texts = [sample_item("train", rng.randrange(10**6)).questions[0].text for _ in range(400)]
    assert {colour for text in texts for colour in COLOURS if colour in text} == set(COLOURS)

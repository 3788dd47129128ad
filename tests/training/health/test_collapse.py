from typing import Any

import pytest

from evlvideo.training.health.collapse import bad_ending_share, repetition_share, signs_of_collapse, signs_of_validation

HEALTHY = {
    "sample_tokens": 9.0,
    "repetition": 0.02,
    "unended_share": 0.05,
    "zero_advantage_share": 0.3,
    "reward": 0.8,
}


@pytest.mark.parametrize("caption", ["a man is playing a", "a dog on the", "Two people are", "a cat in a .", ""])
def test_captions_that_break_off_end_badly(caption: str) -> None:
    assert bad_ending_share([caption]) == 1


@pytest.mark.parametrize("caption", ["a man is playing a guitar", "a dog runs on the grass.", "the ball moves up"])
def test_whole_captions_end_well(caption: str) -> None:
    assert bad_ending_share([caption]) == 0


def test_bad_endings_are_a_share_of_the_captions() -> None:
    assert bad_ending_share(["a man with a", "a man sings", "a dog runs", "a cat sleeps"]) == 0.25


def test_repetition_counts_pairs_of_words_that_were_there_before() -> None:
    assert repetition_share(["a b a b a b"]) == 3 / 5
    assert repetition_share(["a man and a dog", "a man and a dog"]) == 0


def test_captions_of_one_word_repeat_nothing() -> None:
    assert repetition_share(["a", "", "dog"]) == 0


def test_healthy_samples_have_no_signs() -> None:
    assert signs_of_collapse(HEALTHY) == []


def test_what_is_not_known_is_no_sign() -> None:
    assert signs_of_collapse({}) == []


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"sample_tokens": 1.2}, "1.2 tokens"),
        ({"repetition": 0.8}, "80% of word pairs repeat"),
        ({"unended_share": 1.0}, "100% of captions do not end"),
        ({"zero_advantage_share": 1.0}, "samples of a clip are all the same"),
        ({"zero_advantage_share": 1.0, "reward": 0.0}, "may not have learned to caption"),
    ],
)
def test_each_sign_is_named(changed: dict[str, float], said: str) -> None:
    (sign,) = signs_of_collapse(HEALTHY | changed)
    assert said in sign.text and sign.name.startswith("samples-")


def test_all_signs_are_named() -> None:
    assert len(signs_of_collapse(HEALTHY | {"sample_tokens": 1.0, "repetition": 1.0, "zero_advantage_share": 1.0})) == 3


VALIDATION: dict[str, Any] = {
    "step": 100,
    "validation_cider": 0.1,
    "validation_loss": 3.1,
    "validation_clips": 60,
    "validation_distinct": 0.6,
    "validation_empty": 0.0,
    "validation_prompt_between": 0.7,
    "validation_prompt_within": 2.0,
    "validation_prompt_norm": 9.0,
    "batch_loss": 2.9,
    "batch_loss_eval_mode": 2.7,
}
START: dict[str, Any] = {
    "step": 0,
    "validation_clips": 8,
    "validation_prompt_between": 4.0,
    "validation_prompt_within": 3.0,
    "validation_prompt_norm": 9.0,
}


def log_with(**changed: float) -> list[dict[str, Any]]:
    return [START, {"step": 100, "loss": 3.0}, {**VALIDATION, **changed}]


def names_of(history: list[dict[str, Any]]) -> dict[str, bool]:
    return {sign.name: sign.stops for sign in signs_of_validation(history)}


def test_a_healthy_validation_has_no_signs() -> None:
    assert signs_of_validation(log_with()) == []


@pytest.mark.parametrize(
    "changed, name, said",
    [
        ({"validation_distinct": 1 / 60}, "captions-alike", "60 clips have 1 caption in all"),
        ({"validation_distinct": 3 / 60}, "captions-alike", "60 clips have 3 captions in all"),
        ({"validation_clips": 4, "validation_distinct": 0.25}, "captions-alike", "4 clips have 1 caption in all"),
        ({"validation_empty": 0.6}, "captions-empty", "36 of 60 captions have no words"),
        # What a connector from MiniLM came to after 125 steps.
        ({"validation_prompt_between": 0.0015}, "prompts-alike", "lie 0.0015 apart"),
        ({"validation_prompt_between": 0.0015}, "prompts-alike", "and lay 4 apart before the first step"),
        # Small against the start, at a small norm.
        ({"validation_prompt_between": 0.05, "validation_prompt_norm": 1.0}, "prompts-alike", "lie 0.05 apart"),
        ({"batch_loss": 2.3, "batch_loss_eval_mode": 4.5}, "losses-apart", "2.30 in training mode, with dropout, and"),
    ],
)
def test_each_sign_of_a_validation_is_named_and_ends_a_run(changed: dict[str, float], name: str, said: str) -> None:
    (sign,) = signs_of_validation(log_with(**changed))
    assert sign.name == name and sign.stops
    assert said in sign.text
    assert str(sign).startswith(f"{name}: ")


def test_all_signs_of_a_validation_are_named() -> None:
    collapsed = {"validation_distinct": 1 / 60, "validation_empty": 1.0, "validation_prompt_between": 0.0}
    assert names_of(log_with(**collapsed, batch_loss_eval_mode=9.0)) == {
        "captions-alike": True,
        "captions-empty": True,
        "prompts-alike": True,
        "losses-apart": True,
    }


@pytest.mark.parametrize(
    "changed",
    [
        {"validation_clips": 4, "validation_distinct": 0.5},
        {"validation_clips": 1, "validation_distinct": 1.0, "validation_prompt_between": 0.0},
        {"validation_empty": 0.05},
        {"validation_prompt_between": 0.38},  # a random start that learned
        {"batch_loss": 4.5, "batch_loss_eval_mode": 2.3},
        {"validation_loss": 4.4},
    ],
)
def test_what_healthy_runs_show_is_no_sign(changed: dict[str, float]) -> None:
    assert signs_of_validation(log_with(**changed)) == []


def test_some_empty_captions_are_named_and_end_no_run() -> None:
    assert names_of(log_with(validation_empty=0.2)) == {"captions-empty": False}


def test_a_validation_loss_far_above_that_of_training_is_named_and_ends_no_run() -> None:
    (sign,) = signs_of_validation(log_with(validation_loss=4.6))
    assert (sign.name, sign.stops) == ("losses-apart", False)
    assert "the loss is 3.00 in training and 4.60 on validation clips" in sign.text


def test_the_loss_of_a_self_critical_run_is_not_compared() -> None:
    history = log_with(validation_loss=9.0)
    assert signs_of_validation([START, {"step": 100, "loss": 0.1, "reward": 1.0}, history[-1]]) == []


def test_a_validation_is_compared_with_training_lines_before_it() -> None:
    history = log_with(validation_loss=4.0)
    assert signs_of_validation([*history, {"step": 150, "loss": 1.0}]) == []


def test_the_start_is_looked_at_too() -> None:
    alike = {**START, "validation_prompt_between": 0.01}
    (sign,) = signs_of_validation([alike])
    assert sign.name == "prompts-alike" and "before the first step" not in sign.text


def test_a_run_without_a_start_is_judged_by_its_norm_alone() -> None:
    history = log_with(validation_prompt_between=0.05, validation_prompt_norm=1.0)
    assert signs_of_validation(history[1:]) == []


def test_older_logs_have_no_signs() -> None:
    assert signs_of_validation([]) == []
    assert signs_of_validation([{"step": 2, "validation_cider": 0.0, "validation_bad_endings": 1.0}]) == []

import pytest

from evlvideo.training.collapse import bad_ending_share, repetition_share, signs_of_collapse

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
    assert said in sign


def test_all_signs_are_named() -> None:
    assert len(signs_of_collapse(HEALTHY | {"sample_tokens": 1.0, "repetition": 1.0, "zero_advantage_share": 1.0})) == 3

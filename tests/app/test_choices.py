import pytest

from evlvideo.app.choices import Choices
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"captions": 0}, "The number of captions is 0; allowed: 1 to 10."),
        ({"num_beams": 1000}, "The number of beams is 1000; allowed: 1 to 10."),
        ({"max_new_tokens": 101}, "The longest caption, in tokens, is 101; allowed: 1 to 100."),
        ({"temperature": 0}, "The temperature is 0; allowed: 0.01 to 2."),
        ({"top_p": 1.5}, "Top-p is 1.5; allowed: 0.01 to 1."),
        ({"seed": -1}, "The seed is -1; allowed: 0 to 4.29497e+09."),
        ({"prompt": "a" * 1001}, "The number of characters of the prompt is 1001; allowed: 0 to 1000."),
        ({"question": "a" * 1001}, "The number of characters of the question is 1001; allowed: 0 to 1000."),
    ],
)
def test_what_is_out_of_bounds_is_told_with_the_bounds(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(UserError) as error:
        Choices(**wrong)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_more_captions_than_beams_need_sampling() -> None:
    with pytest.raises(UserError, match="3 captions need as many beams, but there are 2"):
        Choices(captions=3, num_beams=2)
    assert Choices(captions=3, num_beams=2, do_sample=True).captions == 3


def test_captions_and_answers_have_the_lengths_of_their_own_section() -> None:
    config = RunConfig()
    assert Choices().decoding(config).max_new_tokens == config.generation.max_new_tokens
    assert Choices(question="what?").decoding(config).max_new_tokens == config.answering.max_new_tokens
    assert Choices(question=" ").decoding(config) == Choices().decoding(config)


def test_a_short_limit_lowers_the_lower_bound_too() -> None:
    decoding = Choices(max_new_tokens=2).decoding(RunConfig())
    assert (decoding.min_new_tokens, decoding.max_new_tokens) == (2, 2)

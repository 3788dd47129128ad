"""The section of texts: what is not given is left open, and nothing can be given."""

import pytest

from evlvideo.config.loading import config_of
from evlvideo.config.text import TextConfig
from evlvideo.errors import UserError


def test_nothing_is_set_by_default() -> None:
    assert config_of([]).text == TextConfig()


@pytest.mark.parametrize("key", ["bos", "prompt"])
def test_a_text_of_nothing_is_not_the_default(key: str) -> None:
    assert getattr(config_of([f"text.{key}=''"]).text, key) == ""
    assert getattr(config_of([f"text.{key}="]).text, key) is None


def test_a_template_has_its_placeholders_in_braces() -> None:
    assert config_of(["text.template='Look: {video}{caption}'"]).text.template == "Look: {video}{caption}"


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("text.template=''", "text.template is empty; it must be plain, chat, or a text"),
        ("text.max_tokens=1", "text.max_tokens is 1; it must be at least 2"),
        ("text.bos_in_loss=maybe", "text.bos_in_loss is 'maybe'; it must be true or false or null"),
    ],
)
def test_wrong_values_are_user_errors(override: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        config_of([override])

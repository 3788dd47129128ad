"""Questions: cleaned as published, put into a prompt, and tokenized for a batch."""

import pytest
import torch
from tiny_models import BOS, PAD, character_tokenizer
from tiny_tokenizers import qwen

from evlvideo.errors import UserError
from evlvideo.models.processing import EvlVideoProcessor
from evlvideo.models.text.layout import chat_layout
from evlvideo.models.text.question import clean_question

PROMPTS = ["Question: what is it? Short answer:", "Question: why? Short answer:"]


def tokens_of(text: str) -> list[int]:
    return character_tokenizer()(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("What IS this?", "what is this?"),
        ('Is "it" (really) #1: a *dog*; or ~not!.', "is it really 1 a dog or not"),
        ("How many, 3?   ", "how many, 3?"),
        ("two  spaces stay", "two  spaces stay"),
        (" ".join(["word"] * 60), " ".join(["word"] * 50)),
        ("", ""),
    ],
)
def test_questions_are_cleaned_as_published(text: str, expected: str) -> None:
    assert clean_question(text) == expected


def test_prompts_are_padded_on_the_left_and_have_no_bos() -> None:
    given = EvlVideoProcessor(character_tokenizer()).questions(PROMPTS)
    padding = len(PROMPTS[0]) - len(PROMPTS[1])
    assert given["prompt_ids"].tolist() == [tokens_of(PROMPTS[0]), [PAD] * padding + tokens_of(PROMPTS[1])]
    assert given["prompt_mask"].tolist() == [[1] * len(PROMPTS[0]), [0] * padding + [1] * len(PROMPTS[1])]


def test_the_published_cut_counts_the_bos_token_and_loses_the_prompts_end() -> None:
    given = EvlVideoProcessor(character_tokenizer()).questions(PROMPTS, max_tokens=32)
    assert given["prompt_ids"][0].tolist() == tokens_of(PROMPTS[0])[:31]
    without = EvlVideoProcessor(character_tokenizer(), bos="").questions(PROMPTS, max_tokens=32)
    assert without["prompt_ids"][0].tolist() == tokens_of(PROMPTS[0])[:32]


def test_by_default_nothing_is_cut() -> None:
    long = f"Question: {'very ' * 40}long? Short answer:"
    assert EvlVideoProcessor(character_tokenizer()).questions([long])["prompt_ids"][0].tolist() == tokens_of(long)


def test_in_a_chat_the_question_is_the_users_turn() -> None:
    tokenizer = qwen()
    processor = EvlVideoProcessor(
        tokenizer, layout=chat_layout(tokenizer), template="chat", bos="", end_of_text="<|im_end|>"
    )
    given = processor.questions(["a cat?", "a dog runs?"])
    texts = [
        tokenizer.decode(row[mask.bool()]) for row, mask in zip(given["prompt_ids"], given["prompt_mask"], strict=True)
    ]
    assert texts == [f"{text}<|im_end|>\n<|im_start|>assistant\n" for text in ("a cat?", "a dog runs?")]
    with pytest.raises(UserError, match=r"max_prompt_tokens is 32, which would cut off the turns of a chat"):
        processor.questions(["a cat?"], max_tokens=32)


@pytest.mark.parametrize(
    "layout, message", [("{video} {caption}", "has no place for a question"), ("{prompt} {video} {caption}", "behind")]
)
def test_a_template_must_have_a_place_for_the_question(layout: str, message: str) -> None:
    processor = EvlVideoProcessor(character_tokenizer(), layout=layout, template=layout, bos="")
    with pytest.raises(UserError, match=message):
        processor.questions(["why?"])


def test_an_answer_has_ended_if_its_ending_was_generated() -> None:
    processor = EvlVideoProcessor(character_tokenizer())
    tokens = torch.tensor([[*tokens_of("ab"), 5, PAD], tokens_of("abcd"), [BOS, 5, PAD, PAD]])
    assert processor.ended(tokens) == [True, False, True]

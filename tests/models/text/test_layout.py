"""Layouts: placeholders in order, the chat template's own text, and what ends a caption."""

import pytest
from tiny_tokenizers import CHATS, SMOLLM2, byte_level, gpt2, llama3, mistral, qwen, smollm2
from transformers import PreTrainedTokenizerFast

from evlvideo.errors import UserError
from evlvideo.models.text.layout import Layout, answer_ending, chat_layout, opens_turns, problem_of_layout


def test_a_layout_is_split_at_its_placeholders() -> None:
    parts = Layout.parse("<s>USER: {video}\n{prompt} ASSISTANT: {caption}</s>", "What happens?")
    assert parts == Layout("<s>USER: ", "\nWhat happens? ASSISTANT:", " ", "</s>")


def test_a_prompt_may_stand_before_the_video() -> None:
    assert Layout.parse("{prompt}:{video}={caption}", "see").before == "see:"


@pytest.mark.parametrize(
    ("layout", "problem"),
    [
        ("{video}{caption}", None),
        ("{prompt}{video}:{caption}.", None),
        ("{caption}", "once"),
        ("{video}", "once"),
        ("{video}{caption}{caption}", "once"),
        ("{video}{prompt}{prompt}{caption}", "at most once"),
        ("{caption}{video}", "before"),
        ("{video}{caption}{prompt}", "before"),
    ],
)
def test_placeholders_must_be_there_and_in_order(layout: str, problem: str | None) -> None:
    found = problem_of_layout(layout)
    assert found is None if problem is None else problem in str(found)


def test_a_chat_layout_is_what_the_template_makes_of_a_question_and_its_answer() -> None:
    assert chat_layout(smollm2()) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\n{video}{prompt}<|im_end|>\n<|im_start|>assistant\n{caption}<|im_end|>\n"
    )
    assert chat_layout(llama3()) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{video}{prompt}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{caption}<|eot_id|>"
    )
    assert chat_layout(mistral()) == "<s>[INST] {video}{prompt} [/INST] {caption}</s>"


@pytest.mark.parametrize(
    "template",
    ["{{ raise_exception('no') }}", "{{ messages[0]['content'] }}", "{{ messages[0]['content'][0]['text'] + 1 }}"],
)
def test_a_template_without_places_for_both_is_a_user_error(template: str) -> None:
    with pytest.raises(UserError, match=r"chat template cannot be used.*Set text.template to plain"):
        chat_layout(byte_level(["<e>"], template, eos_token="<e>"))


def test_no_chat_template_is_a_user_error() -> None:
    with pytest.raises(UserError, match="chat template cannot be used"):
        chat_layout(gpt2())


@pytest.mark.parametrize(
    ("after", "ending"),
    [("<|im_end|>\n", "<|im_end|>"), (" <|im_end|>", "<|im_end|>"), ("\n", "\n"), ("", "<|im_end|>"), (".", ".")],
)
def test_a_caption_ends_with_what_follows_it_or_else_eos(after: str, ending: str) -> None:
    assert answer_ending(smollm2(), after) == ending


@pytest.mark.parametrize(
    ("tokenizer", "opening"),
    [(smollm2(), True), (llama3(), False), (mistral(), False), (byte_level(["<e>"], SMOLLM2, bos_token="<e>"), False)],
)
def test_a_bos_token_that_opens_turns_is_told_from_one_that_opens_texts(
    tokenizer: PreTrainedTokenizerFast, opening: bool
) -> None:
    assert opens_turns(tokenizer, str(tokenizer.bos_token), chat_layout(tokenizer)) == opening


@pytest.mark.parametrize("family", CHATS)
def test_what_ends_an_answer_opens_no_turn(family: str) -> None:
    tokenizer = CHATS[family]()
    assert not opens_turns(tokenizer, str(tokenizer.eos_token), chat_layout(tokenizer))


def test_a_template_of_a_base_model_is_its_chat_siblings() -> None:
    assert chat_layout(qwen(base=True)) == chat_layout(qwen())

"""Texts of new captioners, by family of language model, against the chat template's own text."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_tokenizers import CHATS, byte_level, gpt2, language_model_config, llama3, mistral, pieces, qwen, smollm2
from transformers import PreTrainedTokenizerFast

from evlvideo.errors import UserError
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.processing import IGNORED, EvlVideoProcessor
from evlvideo.models.text.conventions import published_texts

CAPTION = "a cat runs"


def make(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, **changes: Any) -> EvlVideoProcessor:
    return EvlVideoProcessor.for_language_model(language_model_config(tmp_path, tokenizer), **changes)


def spelled(processor: EvlVideoProcessor, ids: list[int]) -> list[str]:
    return processor.tokenizer.convert_ids_to_tokens(ids)


def chat_text(tokenizer: PreTrainedTokenizerFast, question: str, answer: str) -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return tokenizer.apply_chat_template(turns, tokenize=False)


@pytest.fixture(params=CHATS)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return CHATS[request.param]()


def test_a_chat_models_text_is_its_templates(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    processor = make(tmp_path, tokenizer)
    before, _, after = chat_text(tokenizer, "VIDEOWrite a caption for this video.", CAPTION).partition("VIDEO")
    until_end = after[: after.rindex(processor.end_of_text) + len(processor.end_of_text)]
    assert processor.prefix_ids() == tokenizer(before, add_special_tokens=False)["input_ids"]
    (row,) = processor.text([CAPTION])["input_ids"].tolist()
    assert row == tokenizer(until_end, add_special_tokens=False)["input_ids"]


def test_only_the_caption_and_its_ending_are_targets(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    processor = make(tmp_path, tokenizer)
    (labels,) = processor.text([CAPTION])["labels"]
    targets = labels[labels != IGNORED]
    assert targets[-1] == processor.end_token_id == tokenizer.eos_token_id
    assert tokenizer.decode(targets[:-1]).strip() == CAPTION
    assert not set(targets[:-1].tolist()) & set(tokenizer.all_special_ids)


def test_a_chat_models_captions_come_back(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    processor = make(tmp_path, tokenizer)
    batch = processor.text([CAPTION, "the cat sits on a dog"])
    new = batch["input_ids"][:, len(processor.opening_ids()) :]
    assert processor.captions(new) == [CAPTION, "the cat sits on a dog"]


def test_smollm2s_text_token_by_token(tmp_path: Path) -> None:
    processor = make(tmp_path, smollm2())
    assert processor.shown.endswith(
        "<|im_end|>\n<|im_start|>user\n{video}Write a caption for this video.<|im_end|>\n"
        "<|im_start|>assistant\n{caption}<|im_end|>"
    )
    assert spelled(processor, processor.text(["a dog"])["input_ids"][0].tolist()) == [
        *("Write", "Ġa", "Ġcaption", "Ġfor", "Ġthis", "Ġvideo", "."),
        *("<|im_end|>", "Ċ", "<|im_start|>", "assistant", "Ċ"),
        *("a", "Ġdog", "<|im_end|>"),
    ]


def test_mistrals_text_token_by_token(tmp_path: Path) -> None:
    processor = make(tmp_path, mistral())
    assert spelled(processor, processor.prefix_ids())[0] == "<s>"
    pieces = spelled(processor, processor.text(["a dog"])["input_ids"][0].tolist())
    assert pieces[-4:] == ["▁[/INST]", "▁a", "▁dog", "</s>"]


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (gpt2(), ["<|endoftext|>", "a", "Ġdog", "<|endoftext|>"]),
        (qwen(base=True), ["a", "Ġdog", "<|endoftext|>"]),
        (pieces(), ["<s>", "▁a", "▁dog", "</s>"]),
    ],
)
def test_a_base_models_text_is_plain(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, expected: list[str]) -> None:
    processor = make(tmp_path, tokenizer)
    assert processor.prefix_ids() == []
    batch = processor.text(["a dog"])
    assert spelled(processor, batch["input_ids"][0].tolist()) == expected
    assert torch.equal(batch["labels"], batch["input_ids"])
    assert processor.captions(batch["input_ids"][:, len(processor.opening_ids()) :]) == ["a dog"]


def test_a_model_that_stops_at_the_end_of_turns_by_its_own_settings_is_a_chat_model(tmp_path: Path) -> None:
    tokenizer = llama3()
    tokenizer.eos_token = "<|end_of_text|>"  # as the first Llama-3-Instruct had
    stops = tokenizer.convert_tokens_to_ids(["<|end_of_text|>", "<|eot_id|>"])
    assert EvlVideoProcessor.for_language_model(language_model_config(tmp_path / "base", tokenizer)).layout is None
    config = language_model_config(tmp_path / "chat", tokenizer, stops)
    processor = EvlVideoProcessor.for_language_model(config)
    assert (processor.template, processor.end_of_text) == ("chat", "<|eot_id|>")


def test_the_configuration_gets_the_tokens_of_the_texts(tmp_path: Path) -> None:
    config = language_model_config(tmp_path, smollm2())
    processor = EvlVideoProcessor.for_language_model(config)
    assert config.bos_token_id is None
    assert config.prefix_token_ids == processor.prefix_ids()
    assert (config.end_token_id, config.pad_token_id) == (2, 2)


def test_a_caption_has_as_much_room_after_a_chat_as_in_a_plain_text(tmp_path: Path) -> None:
    plain, chat = make(tmp_path, smollm2(), template="plain"), make(tmp_path, smollm2())
    assert plain.max_text_tokens == 31  # no BOS token
    assert chat.max_text_tokens == 31 + len(chat.opening_ids())
    assert make(tmp_path, gpt2()).max_text_tokens == 32


class TestPlainTextOfAChatModel:
    def test_has_no_bos_token_that_opens_turns(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "evlvideo"):
            processor = make(tmp_path, smollm2(), template="plain")
        assert spelled(processor, processor.text(["a dog"])["input_ids"][0].tolist()) == ["a", "Ġdog", "<|im_end|>"]
        assert "BOS token <|im_start|> opens the turns of a chat" in caplog.text

    def test_has_none_that_an_unusable_chat_template_writes(self, tmp_path: Path) -> None:
        tokenizer = smollm2()
        tokenizer.chat_template = "<|im_start|>{{ raise_exception('pictures only') }}"
        processor = make(tmp_path, tokenizer)
        assert (processor.template, processor.bos_token_id) == ("plain", None)

    def test_keeps_a_bos_token_that_opens_texts(self, tmp_path: Path) -> None:
        processor = make(tmp_path, llama3(), template="plain")
        pieces = spelled(processor, processor.text(["a dog"])["input_ids"][0].tolist())
        assert pieces == ["<|begin_of_text|>", "a", "Ġdog", "<|eot_id|>"]

    @pytest.mark.parametrize("key", ["bos", "end_of_text"])
    def test_is_refused_a_token_that_opens_turns(self, tmp_path: Path, key: str) -> None:
        with pytest.raises(UserError, match=f"text.{key} is '<|im_start|>', which opens the turns".replace("|", r"\|")):
            make(tmp_path, smollm2(), template="plain", **{key: "<|im_start|>"})


class TestOwnTexts:
    def test_bos_can_be_left_out_of_the_loss(self, tmp_path: Path) -> None:
        processor = make(tmp_path, gpt2(), bos_in_loss=False)
        batch = processor.text(["a dog"])
        assert batch["labels"][0].tolist() == [IGNORED, *batch["input_ids"][0, 1:].tolist()]

    def test_bos_can_be_left_out(self, tmp_path: Path) -> None:
        processor = make(tmp_path, gpt2(), bos="")
        assert processor.bos_token_id is None
        assert processor.opening_ids() == []

    def test_bos_can_be_another_token(self, tmp_path: Path) -> None:
        processor = make(tmp_path, smollm2(), template="plain", bos="<|endoftext|>")
        assert spelled(processor, processor.opening_ids()) == ["<|endoftext|>"]

    def test_a_template_of_ones_own_is_used_as_it_is(self, tmp_path: Path) -> None:
        processor = make(tmp_path, pieces(), template="<s>Question: {video}{prompt}? \n{caption}</s>", prompt="a cat")
        whole = pieces()("a cat? \n" + CAPTION + "</s>", add_special_tokens=False)["input_ids"]
        assert processor.text([CAPTION])["input_ids"][0].tolist() == whole
        assert spelled(processor, processor.prefix_ids())[0] == "<s>"

    def test_a_prompt_replaces_the_default_question(self, tmp_path: Path) -> None:
        assert "user\n{video}a cat<|im_end|>" in make(tmp_path, smollm2(), prompt="a cat").shown

    @pytest.mark.parametrize(
        ("changes", "problem"),
        [
            ({"bos": "a cat runs"}, "text.bos is 'a cat runs'; it must be one token"),
            ({"end_of_text": ""}, "text.end_of_text is ''; it must be one token"),
            ({"template": "see {caption}"}, r"must hold \{video\} and \{caption\} once"),
            ({"template": "chat"}, "chat template cannot be used"),
            ({"template": "{video}{caption}", "prompt": "see"}, "no place for it"),
            ({"template": "{video}{caption}", "bos": "<|endoftext|>"}, "the template has its own"),
            ({"template": "{video}{caption}", "bos_in_loss": True}, "tokens of a template are no targets"),
            ({"prompt": "the cat sits on a dog", "max_text_tokens": 6}, "7 tokens stand before a caption"),
        ],
    )
    def test_wrong_values_are_user_errors(self, tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
        with pytest.raises(UserError, match=problem):
            make(tmp_path, gpt2(), **changes)

    def test_all_problems_are_listed(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"2 problems(.|\n)*text.bos(.|\n)*text.end_of_text"):
            make(tmp_path, gpt2(), bos="a cat", end_of_text="a dog")


def test_a_tokenizer_without_eos_is_a_user_error_until_an_ending_is_named(tmp_path: Path) -> None:
    tokenizer = byte_level(["<pad>"], pad_token="<pad>")
    with pytest.raises(UserError, match=r"no EOS token, which captions end with; set text\.end_of_text"):
        make(tmp_path, tokenizer)
    processor = make(tmp_path, tokenizer, end_of_text="\n")
    assert spelled(processor, processor.text(["a dog"])["labels"][0].tolist()) == ["a", "Ġdog", "Ċ"]


def test_a_token_beyond_the_vocabulary_is_a_user_error(tmp_path: Path) -> None:
    config = language_model_config(tmp_path, gpt2())
    config.text.vocab_size = 50
    with pytest.raises(UserError, match="the language model has only 50 tokens"):
        EvlVideoProcessor.for_language_model(config, prompt="zzz")


class TestChanged:
    @pytest.fixture
    def config(self, tmp_path: Path) -> EvlVideoConfig:
        return language_model_config(tmp_path, smollm2())

    def test_nothing_changed_is_the_same(self, config: EvlVideoConfig) -> None:
        processor = EvlVideoProcessor.for_language_model(config, prompt="a cat", max_text_tokens=50)
        assert processor.changed(config, template="chat").to_dict() == processor.to_dict() | {"max_text_tokens": 50}

    def test_another_template_comes_with_its_own_prompt_and_ending(self, config: EvlVideoConfig) -> None:
        processor = EvlVideoProcessor.for_language_model(config).changed(config, template="plain")
        assert processor.shown == "{video}{caption}<|im_end|>"
        assert config.prefix_token_ids is None
        assert processor.max_text_tokens == 31

    def test_a_plain_checkpoint_can_take_up_the_chat_template(self, config: EvlVideoConfig) -> None:
        old = EvlVideoProcessor(smollm2(), end_of_text="<|im_end|>")
        processor = old.changed(config, template="chat")
        assert processor.shown.endswith("assistant\n{caption}<|im_end|>")
        assert config.prefix_token_ids == processor.prefix_ids() != []
        assert config.bos_token_id is None

    def test_a_longer_prompt_leaves_as_much_room(self, config: EvlVideoConfig) -> None:
        processor = EvlVideoProcessor.for_language_model(config)
        longer = processor.changed(config, prompt="a cat a cat a cat")
        rooms = [each.max_text_tokens - len(each.opening_ids()) for each in (processor, longer)]
        assert rooms == [31, 31]

    def test_the_tokenizer_is_not_asked_for_its_template_again(self, config: EvlVideoConfig) -> None:
        processor = EvlVideoProcessor.for_language_model(config)
        processor.tokenizer.chat_template = None
        assert "user\n{video}a dog" in processor.changed(config, prompt="a dog").shown


def test_a_layout_goes_through_a_directory(tmp_path: Path) -> None:
    processor = make(tmp_path / "model", smollm2(), prompt="a cat")
    processor.save_pretrained(tmp_path / "processor")
    loaded = EvlVideoProcessor.from_pretrained(tmp_path / "processor")
    assert loaded.to_dict() == processor.to_dict()
    assert loaded.text([CAPTION])["input_ids"].tolist() == processor.text([CAPTION])["input_ids"].tolist()
    assert loaded.tokenizer.chat_template == processor.tokenizer.chat_template


def test_vicunas_published_text_opens_with_its_eos_token_which_is_no_target(tmp_path: Path) -> None:
    texts = published_texts(pieces(), "llama")
    processor = make(tmp_path, pieces(), **texts)
    batch = processor.text(["a dog"])
    assert spelled(processor, batch["input_ids"][0].tolist()) == ["</s>", "▁a", "▁dog", "</s>"]
    assert spelled(processor, batch["labels"][0][1:].tolist()) == ["▁a", "▁dog", "</s>"]
    assert batch["labels"][0][0] == IGNORED


def test_opts_published_text_is_that_of_a_new_model() -> None:
    assert published_texts(pieces(), "opt") == {"template": "plain"}

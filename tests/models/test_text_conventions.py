"""OPT's and Vicuna's ways with text, token by token, with tokenizers made as theirs are."""

from pathlib import Path

import pytest
import torch
from tiny_models import MakeModel
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, OPTConfig, PreTrainedTokenizerFast

from evlvideo.errors import UserError
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.models.processing import IGNORED, EvlVideoProcessor

SENTENCES = ["a cat runs", "a dog", "the cat sits on a dog", "a photo of a cat"] * 5


def opt_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with OPT's special tokens; like OPT's, it opens every text with `</s>` by itself."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="</s>", eos_token="</s>", unk_token="</s>", pad_token="<pad>"
    )


def llama_tokenizer() -> PreTrainedTokenizerFast:
    """Pieces with a leading space mark, as SentencePiece has them; like LLaMA's, it opens every text with `<s>`."""
    special = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=120, special_tokens=special))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


KINDS = {
    "opt": (opt_tokenizer, OPTConfig(hidden_size=16, num_attention_heads=2, ffn_dim=16, num_hidden_layers=1)),
    "llama": (llama_tokenizer, LlamaConfig(hidden_size=16, num_attention_heads=2, num_hidden_layers=1)),
}
OPENING = {"opt": "</s>", "llama": "<s>"}
ENDING = {"opt": "\n", "llama": "</s>"}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def config(kind: str, tmp_path: Path) -> EvlVideoConfig:
    make, text_config = KINDS[kind]
    make().save_pretrained(tmp_path / kind)
    return EvlVideoConfig(language_model=str(tmp_path / kind), text_config=text_config)


@pytest.fixture
def processor(config: EvlVideoConfig, make_model: MakeModel) -> EvlVideoProcessor:
    return EvlVideoProcessor.for_towers(config, make_model().vision_tower)


def tokens_of(processor: EvlVideoProcessor, row: torch.Tensor) -> list[str]:
    return [processor.tokenizer.decode([token]) for token in row.tolist()]


def test_text_is_one_opening_the_caption_and_one_ending(kind: str, processor: EvlVideoProcessor) -> None:
    (row,) = processor.text(["a cat runs"])["input_ids"]
    pieces = tokens_of(processor, row)
    assert (pieces[0], pieces[-1]) == (OPENING[kind], ENDING[kind])
    assert processor.tokenizer.decode(row[1:-1]).strip() == "a cat runs"
    assert OPENING[kind] not in pieces[1:-1] and ENDING[kind] not in pieces[1:-1]


def test_text_is_what_the_tokenizer_makes_of_the_caption_and_its_ending(
    kind: str, processor: EvlVideoProcessor
) -> None:
    """The published code lets the tokenizer open the text by itself."""
    (row,) = processor.text(["a cat runs"])["input_ids"]
    assert row.tolist() == processor.tokenizer("a cat runs" + ENDING[kind])["input_ids"]


def test_opening_caption_and_ending_are_targets(processor: EvlVideoProcessor) -> None:
    batch = processor.text(["a cat runs"])
    assert torch.equal(batch["labels"], batch["input_ids"])


def test_padding_is_on_the_right_and_neither_seen_nor_a_target(processor: EvlVideoProcessor) -> None:
    batch = processor.text(["a dog", "the cat sits on a dog"])
    short = int(batch["attention_mask"][0].sum())
    assert batch["attention_mask"][0].tolist() == [1] * short + [0] * (batch["input_ids"].shape[1] - short)
    assert (batch["labels"][0, short:] == IGNORED).all()
    assert (batch["input_ids"][0, short:] == processor.pad_token_id).all()
    # The short caption's own ending is a target, also where the ending fills the batch.
    assert batch["labels"][0, short - 1] == processor.end_token_id


def test_long_text_is_cut_at_32_tokens_and_loses_its_ending(processor: EvlVideoProcessor) -> None:
    batch = processor.text(["a cat " * 40])
    assert batch["input_ids"].shape == (1, 32)
    assert batch["input_ids"][0, 0] == processor.bos_token_id
    assert processor.end_token_id not in batch["input_ids"][0, 1:]


def test_prompt_comes_after_the_opening_and_is_no_target(kind: str, processor: EvlVideoProcessor) -> None:
    processor.prompt = "a photo of"
    batch = processor.text(["a cat"])
    prompt = processor.prompt_ids()
    assert prompt is not None
    places = 1 + len(prompt)
    assert torch.equal(batch["input_ids"][0, 1:places], prompt)
    assert (batch["labels"][0, :places] == IGNORED).all()
    assert processor.tokenizer.decode(batch["labels"][0, places:-1]).strip() == "a cat"
    assert tokens_of(processor, batch["labels"][0, -1:]) == [ENDING[kind]]


def test_captions_are_read_up_to_the_ending(kind: str, processor: EvlVideoProcessor) -> None:
    (row,) = processor.text(["a cat runs"])["input_ids"]
    beyond = torch.cat([row[1:], row[1:]])
    assert processor.captions(beyond[None]) == ["a cat runs"]


def test_new_model_has_the_tokenizers_tokens(kind: str, config: EvlVideoConfig, processor: EvlVideoProcessor) -> None:
    assert config.bos_token_id == processor.bos_token_id == {"opt": 2, "llama": 1}[kind]
    assert config.end_token_id == processor.end_token_id
    # LLaMA's tokenizer has no padding; the mask hides whatever fills a batch.
    assert config.pad_token_id == {"opt": 1, "llama": 2}[kind]


def test_language_model_without_a_tokenizer_is_a_user_error(make_model: MakeModel, tmp_path: Path) -> None:
    OPTConfig().save_pretrained(tmp_path)
    config = EvlVideoConfig(language_model=str(tmp_path), text_config=OPTConfig())
    with pytest.raises(UserError, match="has no tokenizer"):
        EvlVideoProcessor.for_towers(config, make_model().vision_tower)


def test_text_of_a_tokenizer_without_a_bos_token_begins_with_the_caption(make_model: MakeModel, tmp_path: Path) -> None:
    tokenizer = opt_tokenizer()
    tokenizer.bos_token = None
    tokenizer.save_pretrained(tmp_path)
    config = EvlVideoConfig(language_model=str(tmp_path), text_config=OPTConfig())
    processor = EvlVideoProcessor.for_towers(config, make_model().vision_tower)
    assert tokens_of(processor, processor.text(["a dog"])["input_ids"][0]) == ["a", " dog", "\n"]
    assert config.bos_token_id is None

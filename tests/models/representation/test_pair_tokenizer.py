"""Texts are tokenized as BERT does, by whatever tokenizer there is."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from evlvideo.errors import UserError
from evlvideo.models.representation.texts import PairTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "ball", "rolls", "##ing", "roll"]


@pytest.fixture
def bert(tmp_path: Path) -> PreTrainedTokenizerFast:
    """A tokenizer of BERT's kind, also in `tmp_path`."""
    tokenizer = Tokenizer(models.WordPiece({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    found = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    found.save_pretrained(tmp_path)
    return found


def test_texts_are_those_of_a_bert(bert: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    texts = ["A red ball", "a ball\nrolling", ""]
    expected = bert(texts, padding=True, return_tensors="pt")
    found = PairTokenizer(str(tmp_path), 32)(texts)
    assert found["text_ids"].tolist() == expected["input_ids"].tolist()
    assert found["text_mask"].tolist() == expected["attention_mask"].tolist()


def test_long_texts_keep_the_token_that_ends_them(bert: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    expected = bert(["a red ball rolls"], truncation=True, max_length=4).input_ids
    assert PairTokenizer(str(tmp_path), 4)(["a red ball rolls"])["text_ids"].tolist() == expected


def test_one_token_opens_what_is_generated(bert: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer = PairTokenizer(str(tmp_path), 32)
    assert (tokenizer.own_tokens, len(tokenizer), tokenizer.decoding_token_id) == (len(WORDS), 11, 10)
    assert tokenizer.pad_token_id == 0


def test_the_packaged_language_models_tokenizer_gets_the_tokens_that_it_lacks() -> None:
    tokenizer = PairTokenizer("package:mini/language_model", 32)
    assert len(tokenizer) == tokenizer.own_tokens + 3  # around a text, and before one that is generated
    ids = tokenizer(["a red ball"])["text_ids"][0].tolist()
    assert ids[0] == tokenizer.own_tokens
    assert ids[-1] == tokenizer.own_tokens + 1
    assert max(ids[1:-1]) < tokenizer.own_tokens


def test_a_tokenizer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"representation\.tokenizer is '.*none', which cannot be opened"):
        PairTokenizer(str(tmp_path / "none"), 32)

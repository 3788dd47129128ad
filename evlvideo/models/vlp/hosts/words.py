"""Tokenizers of vision-language models, and the special tokens that these need."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import BertTokenizer

from evlvideo.errors import UserError

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
DEC, ENC = "[DEC]", "[ENC]"
"""BLIP's first tokens of texts to write, and of texts that read an image."""


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """A tokenizer's special tokens."""

    vocabulary: int
    """Number of tokens."""
    pad: int
    first: int
    """[CLS], or the BOS token of CLIP."""
    last: int
    """[SEP], or the EOS token of CLIP."""
    mask: int | None = None
    dec: int | None = None
    enc: int | None = None


def tokenizer_of_words(texts: Iterable[str]) -> BertTokenizer:
    """Make a tokenizer of the words of some texts, in lower case; others are unknown to it."""
    plain = BertTokenizer(vocab={token: index for index, token in enumerate(_SPECIAL)}).backend_tokenizer
    split, lower = plain.pre_tokenizer, plain.normalizer
    assert split is not None
    assert lower is not None
    words = {word for text in texts for word, _ in split.pre_tokenize_str(lower.normalize_str(text))}
    return BertTokenizer(vocab={token: index for index, token in enumerate((*_SPECIAL, *sorted(words)))})


def add_first_tokens(tokenizer: Any) -> None:
    """Give a BERT's tokenizer BLIP's [DEC] and [ENC], as published, unless it has them."""
    tokenizer.add_special_tokens({"bos_token": DEC})
    tokenizer.add_special_tokens({"extra_special_tokens": [ENC]})


def special_ids(tokenizer: Any, host: str) -> SpecialIds:
    """Look up the special tokens that a host needs.

    Args:
        tokenizer: of transformers; for `blip` after :func:`add_first_tokens`.
        host: `blip`, `albef` or `clip`.

    Raises:
        UserError: the tokenizer lacks one.
    """
    first = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer.bos_token_id
    last = tokenizer.sep_token_id if tokenizer.sep_token_id is not None else tokenizer.eos_token_id
    needed = {"pad": tokenizer.pad_token_id, "first": first, "last": last}
    if host == "albef":
        needed["mask"] = tokenizer.mask_token_id
    if host == "blip":
        needed |= {"dec": tokenizer.convert_tokens_to_ids(DEC), "enc": tokenizer.convert_tokens_to_ids(ENC)}
    if missing := [name for name, index in needed.items() if index is None]:
        raise UserError(
            f"The tokenizer has no {', '.join(missing)} token, which {host} needs; name a BERT's as model.tokenizer, "
            "such as bert-base-uncased."
        )
    return SpecialIds(vocabulary=len(tokenizer), **needed)


def tokenized(tokenizer: Any, texts: Sequence[str], most_tokens: int) -> dict[str, Tensor]:
    """Tokenize `B` texts: `input_ids` and `attention_mask`, `(B, S)`; longer ones are cut off before their last token.

    Args:
        tokenizer: of transformers.
        texts: whose white space is made single spaces.
        most_tokens: upper bound of `S`.
    """
    found = tokenizer(
        [" ".join(text.split()) for text in texts],
        padding=True,
        truncation=True,
        max_length=most_tokens,
        return_tensors="pt",
    )
    return {"input_ids": found["input_ids"], "attention_mask": found["attention_mask"]}

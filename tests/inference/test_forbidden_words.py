"""No sequence of tokens spells a forbidden word, and nothing else is forbidden."""

import random
import re
from collections.abc import Callable

import pytest
import torch
from tiny_tokenizers import byte_level, pieces
from transformers import PreTrainedTokenizerBase

from evlvideo.config.generation import GenerationConfig
from evlvideo.inference.captioning import decoding_arguments
from evlvideo.inference.forbidden_words import ForbiddenWords

WORDS = ["Cat", "dog  sits", "on"]
WHOLE = re.compile(r"(?<!\w)(cat|dog sits|on)(?!\w)")
MAKERS: dict[str, Callable[[], PreTrainedTokenizerBase]] = {
    "byte-level": lambda: byte_level(["</s>"], eos_token="</s>"),
    "pieces": pieces,
}


@pytest.mark.parametrize("maker", MAKERS)
def test_what_is_forbidden_is_what_would_complete_a_word(maker: str) -> None:
    """Against a search of the text behind every token of the vocabulary."""
    tokenizer, draw = MAKERS[maker](), random.Random(0)
    forbidden = ForbiddenWords(WORDS, tokenizer)
    texts = forbidden._texts
    wanted = [token for token, text in enumerate(texts) if text and set(text) <= set("catdogsin ")]
    banned = 0
    for _ in range(60):
        tokens: list[int] = []
        for _ in range(8):
            given = torch.tensor([tokens], dtype=torch.long)
            scores = forbidden(given, torch.zeros(1, len(tokenizer)))[0]
            text = "".join(texts[token] for token in tokens)
            expected = [bool(WHOLE.search(text + texts[token])) for token in range(len(tokenizer))]
            assert scores.isinf().tolist() == expected
            banned += sum(expected)
            tokens.append(draw.choice([token for token in wanted if not expected[token]]))
    assert banned > 1000


def test_rows_are_told_apart_and_scores_given_stay() -> None:
    tokenizer = MAKERS["byte-level"]()
    forbidden = ForbiddenWords(["cat"], tokenizer)
    ca, dog = tokenizer("a ca")["input_ids"], tokenizer("a dog")["input_ids"]
    length = max(len(ca), len(dog))
    rows = [[tokenizer.convert_tokens_to_ids("Ġ")] * (length - len(row)) + row for row in (ca, dog)]
    scores = torch.zeros(2, len(tokenizer))
    after = forbidden(torch.tensor(rows), scores)
    t = tokenizer.convert_tokens_to_ids("t")
    assert after[:, t].tolist() == [-torch.inf, 0.0]
    assert not scores.any()


def test_decoding_forbids_nothing_unless_asked() -> None:
    tokenizer = MAKERS["byte-level"]()
    assert "logits_processor" not in decoding_arguments(GenerationConfig(), tokenizer)
    (processor,) = decoding_arguments(GenerationConfig(forbidden_words=["cat"]), tokenizer)["logits_processor"]
    assert isinstance(processor, ForbiddenWords)

"""Keep a language model from words, however its tokens spell them.

transformers' `bad_words_ids` forbids sequences of tokens. A model then spells the word with other tokens (` c`, `at`),
and ` cat` of ` cats` is forbidden, too. Here texts are compared.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedTokenizerBase

_BATCH = 4096


class ForbiddenWords(LogitsProcessor):
    """Gives tokens that would complete a forbidden word no probability.

    Upper case makes no difference. A token that may begin a longer word is forbidden where it completes a shorter one,
    so that `cats` can only be spelled by a token that goes on behind `cat`.

    Args:
        words: words, or several of them in a row.
        tokenizer: the language model's.
    """

    def __init__(self, words: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> None:
        self._texts = _token_texts(tokenizer)
        self._words = [" ".join(word.lower().split()) for word in words]
        self._longest = max(map(len, self._words))
        self._matching: dict[str, Tensor] = {}

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Take the tokens so far, `(B, L)`, and scores of the next one, `(B, V)`; return scores."""
        scores = scores.clone()
        # Texts that are as long as the longest word, and a character before it.
        for row, tokens in enumerate(input_ids[:, -self._longest - 1 :].tolist()):
            text = "".join(self._texts[token] for token in tokens if token < len(self._texts))
            for pattern in self._patterns(text):
                scores[row, self._tokens(pattern).to(scores.device)] = -torch.inf
        return scores

    def _patterns(self, text: str) -> Iterator[str]:
        """Yield what matches the texts of tokens that complete a word behind a text."""
        before = r"(?<=\W)" if re.search(r"\w\Z", text) else r"(?<!\w)"
        for word in self._words:
            yield rf"{before}{re.escape(word)}(?!\w)"
            for length in range(1, min(len(word), len(text) + 1)):
                if re.search(rf"(?<!\w){re.escape(word[:length])}\Z", text):
                    yield rf"\A{re.escape(word[length:])}(?!\w)"

    def _tokens(self, pattern: str) -> Tensor:
        """Return the tokens whose texts match a pattern."""
        if pattern not in self._matching:
            search = re.compile(pattern).search
            found = [token for token, text in enumerate(self._texts) if search(text)]
            self._matching[pattern] = torch.tensor(found, dtype=torch.long)
        return self._matching[pattern]


@lru_cache(maxsize=2)
def _token_texts(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return each token's text in lower case, as it is behind another token; alone, some lose their space."""
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"][:1]
    before = len(_decoded(tokenizer, [anchor])[0])
    tokens = range(len(tokenizer))
    starts = range(0, len(tokens), _BATCH)
    pairs = ([[*anchor, token] for token in tokens[start : start + _BATCH]] for start in starts)
    return [text[before:].lower() for batch in pairs for text in _decoded(tokenizer, batch)]


def _decoded(tokenizer: PreTrainedTokenizerBase, batch: list[list[int]]) -> list[str]:
    texts: list[str] = tokenizer.batch_decode(batch, clean_up_tokenization_spaces=False)
    return texts

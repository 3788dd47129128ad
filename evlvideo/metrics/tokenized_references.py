"""References as words, counted once for all systems that are scored with them."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Self

import numpy as np

from evlvideo.metrics.bleu_counts import bleu_counts
from evlvideo.metrics.cider import CiderD
from evlvideo.metrics.tokenizers.tokenize import tokenize, tokenize_lines


class TokenizedReferences:
    """What any number of systems are scored with. N-grams are counted when they are first asked for.

    Args:
        words: clip → references, with words separated by single spaces.
        tokenizer: what made the words.
    """

    def __init__(self, words: Mapping[str, Sequence[str]], tokenizer: str) -> None:
        self.words = words
        self.tokenizer = tokenizer

    @classmethod
    def of(cls, references: Mapping[str, Sequence[str]], tokenizer: str) -> Self:
        """Tokenise what people wrote.

        Raises:
            UserError: the tokeniser is unknown, or is `ptb` and cannot run.
        """
        return cls(tokenize(references, tokenizer), tokenizer)

    def tokenize(self, captions: Mapping[str, str]) -> dict[str, str]:
        """Make words of captions as of the references.

        Raises:
            UserError: the tokeniser cannot run.
        """
        return dict(zip(captions, tokenize_lines(list(captions.values()), self.tokenizer), strict=True))

    def cider(self, words: Mapping[str, str]) -> np.ndarray:
        """CIDEr of captions, `(captions)`, with the frequencies of the references of exactly their clips.

        Args:
            words: clip → caption, of some of the clips or of all.
        """
        frequencies = "split" if len(words) == len(self.words) else "batch"
        return self._counted.score_all(list(words.values()), list(words), frequencies=frequencies)

    def bleu_counts(self, words: Mapping[str, str]) -> np.ndarray:
        """What BLEU of captions is computed from; see :func:`evlvideo.metrics.bleu_counts.bleu_counts`."""
        return bleu_counts(self._counted, list(words.values()), list(words))

    @cached_property
    def _counted(self) -> CiderD:
        return CiderD({clip_id: texts for clip_id, texts in self.words.items() if texts})

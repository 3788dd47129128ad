"""Tokenized references, counted once for all systems that are scored with them."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Self

import numpy as np

from evlvideo.metrics.bleu_counts import bleu_counts
from evlvideo.metrics.cider import CiderD
from evlvideo.metrics.remarks import script_remarks
from evlvideo.metrics.tokenizers.tokenize import tokenize, tokenize_lines


class TokenizedReferences:
    """References shared by any number of systems. N-grams are counted on first use.

    Args:
        words: clip → references, with words separated by single spaces.
        tokenizer: the tokenizer that made the words.
        remarks: what to say of scores of these words.
    """

    def __init__(self, words: Mapping[str, Sequence[str]], tokenizer: str, remarks: Sequence[str] = ()) -> None:
        self.words = words
        self.tokenizer = tokenizer
        self.remarks = remarks

    @classmethod
    def of(cls, references: Mapping[str, Sequence[str]], tokenizer: str) -> Self:
        """Tokenize what people wrote.

        Raises:
            UserError: the tokenizer is unknown, or is `ptb` and cannot run.
        """
        return cls(tokenize(references, tokenizer), tokenizer, script_remarks(references, tokenizer))

    def tokenize(self, captions: Mapping[str, str]) -> dict[str, str]:
        """Tokenize captions as the references were.

        Raises:
            UserError: the tokenizer cannot run.
        """
        return dict(zip(captions, tokenize_lines(list(captions.values()), self.tokenizer), strict=True))

    def cider(self, words: Mapping[str, str]) -> np.ndarray:
        """Return CIDEr of captions, `(captions)`, with document frequencies from exactly their clips.

        Args:
            words: clip → caption, for some of the clips or all.
        """
        frequencies = "split" if len(words) == len(self.words) else "batch"
        return self._counted.score_all(list(words.values()), list(words), frequencies=frequencies)

    def bleu_counts(self, words: Mapping[str, str]) -> np.ndarray:
        """Count what BLEU of captions is computed from; see :func:`evlvideo.metrics.bleu_counts.bleu_counts`."""
        return bleu_counts(self._counted, list(words.values()), list(words))

    @cached_property
    def _counted(self) -> CiderD:
        return CiderD({clip_id: texts for clip_id, texts in self.words.items() if texts})

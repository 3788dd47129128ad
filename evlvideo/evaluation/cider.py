"""CIDEr-D (Vedantam et al., CVPR 2015), with document frequencies from the evaluated references or a training split.

For n = 1…4, a text is a vector over its n-grams with weights tf × (ln N − ln max(1, df)), where a document is the set
of references of one clip. A hypothesis and a reference are compared by the clipped dot product over the product of
their norms, times a Gaussian penalty on the difference of their lengths. The score is ten times the mean over n and
references. pycocoevalcap's `Cider` is this formula with the frequencies of the evaluated references.

The references of a clip are weighted once and kept, so that a score costs some tens of microseconds, and it depends on
nothing but the hypothesis, the clip and the frequencies.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from evlvideo.errors import UserError

MAX_N = 4
"""Longest n-grams."""
SIGMA = 6.0
"""Standard deviation of the length penalty, in words."""
END_OF_TEXT = "<end of text>"
"""The word that stands for the end of a caption. It holds spaces, so that no word of a caption equals it."""

Ngram = tuple[str, ...]


class _References(NamedTuple):
    """The weighted n-grams of one clip's references, one entry for each pair of reference and n-gram."""

    ids: np.ndarray  # (entries,) int32, the n-gram
    cells: np.ndarray  # (entries,) int32, (n - 1) × references + reference
    weights: np.ndarray  # (entries,) float64
    norms: np.ndarray  # (MAX_N, references) float64
    lengths: np.ndarray  # (references,) float64, in words


class CiderD:
    """Scores hypotheses against the references of their clips.

    All texts are tokenised: words separated by white space.

    Args:
        references: the references of every clip that can be scored.
        document_references: the references of each document that frequencies are counted over, such as a training
            split; those in `references` where nothing is given.
        end_of_text: count the end as a word, in references, frequencies, and hypotheses that ended.

    Raises:
        UserError: there is no document, or a clip has no references.
    """

    def __init__(
        self,
        references: Mapping[str, Sequence[str]],
        document_references: Iterable[Sequence[str]] | None = None,
        *,
        end_of_text: bool = False,
    ) -> None:
        without = [clip_id for clip_id, texts in references.items() if not texts]
        if without:
            raise UserError(f"CIDEr needs references for every clip; {len(without)} have none, such as {without[0]!r}.")
        self.end_of_text = end_of_text
        self._references = {clip_id: list(texts) for clip_id, texts in references.items()}
        self._weighted: dict[str, _References] = {}
        frequencies: Counter[Ngram] = Counter()
        documents = 0
        for texts in self._references.values() if document_references is None else document_references:
            frequencies.update({ngram for text in texts for ngram in _ngrams(self._words(text, ended=True))})
            documents += 1
        if documents == 0:
            raise UserError("CIDEr needs at least one document to count frequencies over; none was given.")
        self.log_documents = math.log(documents)
        self._ids = {ngram: index for index, ngram in enumerate(frequencies)}
        # The weight of one occurrence by id. The last entry is for all n-grams outside the documents: ln N.
        self._idf = self.log_documents - np.log(np.array([*frequencies.values(), 1.0]))

    def score(self, hypothesis: str, clip_id: str, *, ended: bool = True) -> float:
        """Return CIDEr-D of one hypothesis, between 0 and 10.

        Args:
            hypothesis: the tokenised caption.
            clip_id: the clip whose references it is compared with.
            ended: whether the caption ended before it was cut off; counts only with `end_of_text`.

        Raises:
            UserError: the clip has no references.
        """
        references = self._weighted_references(clip_id)
        words = self._words(hypothesis, ended=ended)
        counts = Counter(_ngrams(words))
        if not counts:
            return 0.0
        unknown = len(self._ids)
        ids = np.fromiter((self._ids.get(ngram, unknown) for ngram in counts), np.int32, len(counts))
        orders = np.fromiter((len(ngram) - 1 for ngram in counts), np.int32, len(counts))
        weights = np.fromiter(counts.values(), np.float64, len(counts)) * self._idf_of(ids)
        norms = np.sqrt(np.bincount(orders, weights**2, minlength=MAX_N))
        by_id = np.argsort(ids, kind="stable")
        ids, weights = ids[by_id], weights[by_id]
        place = np.minimum(np.searchsorted(ids, references.ids), len(ids) - 1)
        same = ids[place] == references.ids
        ours, theirs = weights[place[same]], references.weights[same]
        products = np.bincount(
            references.cells[same], np.minimum(ours, theirs) * theirs, minlength=references.norms.size
        ).reshape(references.norms.shape)
        scale = norms[:, None] * references.norms
        cosines = np.divide(products, scale, out=np.zeros(scale.shape), where=scale != 0)
        penalty = np.exp(-((len(words) - references.lengths) ** 2) / (2 * SIGMA**2))
        return float((cosines * penalty).mean() * 10)

    def _weighted_references(self, clip_id: str) -> _References:
        if clip_id not in self._weighted:
            if clip_id not in self._references:
                raise UserError(f"There are no references for the clip {clip_id!r}; give it to the scorer first.")
            self._weighted[clip_id] = self._weigh(self._references[clip_id])
        return self._weighted[clip_id]

    def _weigh(self, texts: Sequence[str]) -> _References:
        words = [self._words(text, ended=True) for text in texts]
        counted = [(reference, ngram, count) for reference, text in enumerate(words)
                   for ngram, count in Counter(_ngrams(text)).items()]  # fmt: skip
        for _, ngram, _ in counted:
            # An n-gram outside the documents gets an id, so that hypotheses can match it.
            self._ids.setdefault(ngram, len(self._ids))
        ids = np.array([self._ids[ngram] for _, ngram, _ in counted], np.int32)
        cells = np.array([(len(ngram) - 1) * len(texts) + reference for reference, ngram, _ in counted], np.int32)
        weights = np.array([count for _, _, count in counted], np.float64) * self._idf_of(ids)
        norms = np.sqrt(np.bincount(cells, weights**2, minlength=MAX_N * len(texts))).reshape(MAX_N, len(texts))
        return _References(ids, cells, weights, norms, np.array([len(text) for text in words], np.float64))

    def _idf_of(self, ids: np.ndarray) -> np.ndarray:
        return self._idf[np.minimum(ids, len(self._idf) - 1)]

    def _words(self, text: str, *, ended: bool) -> list[str]:
        words = text.split()
        return [*words, END_OF_TEXT] if self.end_of_text and ended else words


def _ngrams(words: list[str]) -> list[Ngram]:
    return [tuple(words[i : i + n]) for n in range(1, MAX_N + 1) for i in range(len(words) - n + 1)]

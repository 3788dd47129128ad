"""CIDEr-D (Vedantam et al., CVPR 2015), with document frequencies from the evaluated references or a training split.

For n = 1…4, a text is a vector over its n-grams with weights tf × (ln N − ln max(1, df)), where a document is the set
of references of one clip. A hypothesis and a reference are compared by the clipped dot product over the product of
their norms, times a Gaussian penalty on the difference of their lengths. The score is ten times the mean over n and
references. pycocoevalcap's `Cider` is this formula with the frequencies of the evaluated references.

References are counted and weighted once (:mod:`evlvideo.metrics.ngrams.tables`). Hypotheses are scored some thousands
at a time, in a few dozen NumPy calls. A score depends only on the hypothesis, the clip and the frequencies: the order
of summation is independent of the rest of the call.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import numpy as np

from evlvideo.errors import UserError
from evlvideo.metrics.ngrams.reference_counts import (
    ReferenceCounts,
    Selected,
    compact,
    firsts,
    match,
    ngrams_of,
    padded,
    references_of,
    select,
)
from evlvideo.metrics.ngrams.tables import MAX_N, Counted, NgramTables, count_words, ranges, words_of

SIGMA = 6.0
"""Standard deviation of the length penalty, in words."""
FREQUENCIES = ("split", "batch")
"""Sources of document frequencies: all documents, or the references of the clips in one call."""
_AT_A_TIME = 4096
"""Hypotheses compared together; more take memory and are no faster."""


class CiderD:
    """Score hypotheses against the references of their clips.

    Texts are tokenized: words separated by white space.

    Args:
        references: the references of every clip that can be scored.
        document_references: the references of each document that frequencies are counted over, such as a training
            split. Defaults to `references`.
        end_of_text: count EOS as a word, in references, frequencies, and hypotheses that ended.

    Raises:
        UserError: there are no documents, or a clip has no references.
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
        groups = [list(texts) for texts in references.values()]
        apart = None if document_references is None else [list(texts) for texts in document_references]
        if not (groups if apart is None else apart):
            raise UserError("CIDEr needs at least one document to count frequencies over; none was given.")
        tables, counted = count_words([*groups, *(apart or [])], end_of_text=end_of_text)
        documents = slice(0, None) if apart is None else slice(len(groups), None)
        frequencies = _document_frequencies(counted, tables.size, documents)
        self._set(list(references), tables, compact(counted, len(groups)), frequencies, _documents(groups, apart))
        self.end_of_text = end_of_text

    @classmethod
    def from_parts(
        cls,
        clip_ids: Sequence[str],
        tables: NgramTables,
        references: ReferenceCounts,
        frequencies: np.ndarray,
        documents: int,
        *,
        end_of_text: bool,
    ) -> Self:
        """Build a scorer from the public attributes of another."""
        scorer = cls.__new__(cls)
        scorer._set(clip_ids, tables, references, frequencies, documents)
        scorer.end_of_text = end_of_text
        return scorer

    def _set(
        self,
        clip_ids: Sequence[str],
        tables: NgramTables,
        references: ReferenceCounts,
        frequencies: np.ndarray,
        documents: int,
    ) -> None:
        self.clip_ids = clip_ids
        self.tables = tables
        self.references = references
        self.frequencies = frequencies
        """Documents of each n-gram, `(n-grams)`."""
        self.documents = documents
        self._clips = {clip_id: index for index, clip_id in enumerate(clip_ids)}
        # The last entry is for n-grams outside the tables: ln N.
        self._idf = _idf(np.append(frequencies, 0), documents)
        self._squares: np.ndarray | None = None

    def score(self, hypothesis: str, clip_id: str, *, ended: bool = True) -> float:
        """Return CIDEr-D of one hypothesis, between 0 and 10; see :meth:`score_all`."""
        return float(self.score_all([hypothesis], [clip_id], [ended])[0])

    def score_all(
        self,
        hypotheses: Sequence[str],
        clip_ids: Sequence[str],
        ended: Sequence[bool] | None = None,
        *,
        frequencies: str = "split",
    ) -> np.ndarray:
        """Return CIDEr-D of hypotheses, `(hypotheses)`, between 0 and 10.

        Args:
            hypotheses: tokenized captions.
            clip_ids: the clip whose references each is compared with.
            ended: whether each caption reached EOS; matters only with `end_of_text`. Defaults to all true.
            frequencies: `split` for those of the documents, or `batch` for those of the references of the clips in
                `clip_ids`, one document a clip. With a single clip, every weight and every score is 0.

        Raises:
            UserError: a clip has no references, or `frequencies` is unknown.
        """
        if frequencies not in FREQUENCIES:
            raise UserError(f"The frequencies are {frequencies!r}; allowed: {', '.join(FREQUENCIES)}.")
        if not hypotheses:
            return np.zeros(0)
        ended = [True] * len(hypotheses) if ended is None else ended
        words = [
            words_of(text, end_of_text=self.end_of_text and finished)
            for text, _, finished in zip(hypotheses, clip_ids, ended, strict=True)
        ]
        clips = self.indices(clip_ids)
        of_batch = self._batch_idf(np.unique(clips)) if frequencies == "batch" else None
        return np.concatenate(
            [
                self._score(words[start : start + _AT_A_TIME], clips[start : start + _AT_A_TIME], of_batch)
                for start in range(0, len(words), _AT_A_TIME)
            ]
        )

    def _score(self, words: list[list[str]], clips: np.ndarray, of_batch: np.ndarray | None) -> np.ndarray:
        """Score hypotheses with the n-gram weights of the batch; if None, of the split."""
        distinct, clip_of = np.unique(clips, return_inverse=True)
        selected = select(self.references, self.tables.size, distinct)
        if of_batch is None:
            squares = padded(self._split_squares()[:, references_of(self.references, distinct)], selected.there)
            return self._compare(words, clip_of, selected, self._idf, squares)
        return self._compare(words, clip_of, selected, of_batch, self._batch_squares(selected, of_batch))

    def indices(self, clip_ids: Sequence[str]) -> np.ndarray:
        """Return the index of each clip in :attr:`clip_ids`.

        Raises:
            UserError: a clip has no references.
        """
        try:
            return np.array([self._clips[clip_id] for clip_id in clip_ids], np.int64)
        except KeyError as error:
            raise UserError(
                f"There are no references for the clip {error.args[0]!r}; give it to the scorer first."
            ) from error

    def _compare(
        self, words: list[list[str]], clip_of: np.ndarray, selected: Selected, idf: np.ndarray, squares: np.ndarray
    ) -> np.ndarray:
        """Score hypotheses; `squares` are the squared norms of the references, `(MAX_N, C, R)`."""
        hypotheses, most = len(words), selected.there.shape[1]
        found = self.tables.count(words)
        weights = found.counts * idf[found.ids]
        # N-grams outside the tables are summed apart, as whole numbers, so that their order has no effect.
        own_squares = np.bincount(found.order * hypotheses + found.text, weights**2, minlength=MAX_N * hypotheses)
        own_squares = own_squares + found.unknown_squares.ravel() * idf[-1] ** 2

        same, pairs, entries = match(selected, clip_of[found.text], found.ids)
        theirs = np.repeat(idf[found.ids[same]], pairs) * self.references.counts[entries]
        cells = np.repeat((found.order[same] * hypotheses + found.text[same]) * most, pairs)
        products = np.bincount(
            cells + self.references.references[entries],
            np.minimum(np.repeat(weights[same], pairs), theirs) * theirs,
            minlength=MAX_N * hypotheses * most,
        ).reshape(MAX_N, hypotheses, most)

        scale = np.sqrt(own_squares).reshape(MAX_N, hypotheses, 1) * np.sqrt(squares)[:, clip_of]
        cosines = np.divide(products, scale, out=np.zeros(scale.shape), where=scale != 0).sum(axis=0)
        differences = np.array([len(text) for text in words])[:, None] - selected.lengths[clip_of]
        cosines *= np.exp(differences**2 / (-2 * SIGMA**2))
        # References that a clip does not have are padded with zeros; a running sum does not depend on their number.
        sums = np.cumsum(cosines, axis=1)[:, -1]
        scores: np.ndarray = sums * 10 / (MAX_N * selected.there.sum(axis=1)[clip_of])
        return scores

    def _split_squares(self) -> np.ndarray:
        """Return the squared norms of all references, `(MAX_N, references)`."""
        if self._squares is None:
            held, clips = self.references, len(self.clip_ids)
            squares = np.zeros((MAX_N, len(held.lengths)))
            for start in range(0, clips, _AT_A_TIME):
                some = np.arange(start, min(start + _AT_A_TIME, clips))
                selected = select(held, self.tables.size, some)
                squares[:, references_of(held, some)] = self._batch_squares(selected, self._idf)[:, selected.there]
            self._squares = squares
        return self._squares

    def _batch_idf(self, clips: np.ndarray) -> np.ndarray:
        # Most n-grams are in no reference of a small batch.
        idf = np.full(self.tables.size + 1, math.log(len(clips)))
        ids, frequencies = np.unique(ngrams_of(self.references, clips), return_counts=True)
        idf[ids] = _idf(frequencies, len(clips))
        return idf

    def _batch_squares(self, selected: Selected, idf: np.ndarray) -> np.ndarray:
        clips, ids = np.divmod(selected.ngram_keys, max(self.tables.size, 1))
        entries = ranges(selected.entries_from, selected.entries)
        count, most = selected.there.shape
        cells = np.repeat((self.tables.order_of(ids) * count + clips) * most, selected.entries)
        weights = np.repeat(idf[ids], selected.entries) * self.references.counts[entries]
        squares = np.bincount(cells + self.references.references[entries], weights**2, minlength=MAX_N * count * most)
        return squares.reshape(MAX_N, count, most)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the arrays, without words and ids."""
        arrays = [*self.references, *self.tables.keys, self.frequencies, self._idf, self._split_squares()]
        return sum(array.nbytes for array in arrays)


def _documents(groups: list[list[str]], apart: list[list[str]] | None) -> int:
    return len(groups) if apart is None else len(apart)


def _idf(frequencies: np.ndarray, documents: int) -> np.ndarray:
    idf: np.ndarray = math.log(documents) - np.log(np.maximum(frequencies, 1).astype(np.float64))
    return idf


def _document_frequencies(counted: Counted, size: int, documents: slice) -> np.ndarray:
    """Count the groups that contain each n-gram, `(n-grams)` int32."""
    first, _, _ = documents.indices(len(counted.groups_from) - 1)
    start = counted.groups_from[first]
    ids = counted.ids[start:]
    new = firsts(ids, counted.groups_from[first:-1] - start)
    return np.bincount(ids[new], minlength=size).astype(np.int32)

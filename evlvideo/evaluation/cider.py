"""CIDEr-D (Vedantam et al., CVPR 2015), with document frequencies from the evaluated references or a training split.

For n = 1…4, a text is a vector over its n-grams with weights tf × (ln N − ln max(1, df)), where a document is the set
of references of one clip. A hypothesis and a reference are compared by the clipped dot product over the product of
their norms, times a Gaussian penalty on the difference of their lengths. The score is ten times the mean over n and
references. pycocoevalcap's `Cider` is this formula with the frequencies of the evaluated references.

The references are counted and weighted once (:mod:`evlvideo.evaluation.ngrams`), and all hypotheses of a call are
scored together, in some tens of NumPy calls. A score depends on nothing but the hypothesis, the clip and the
frequencies: sums run in an order that the rest of the call has no part in.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np

from evlvideo.errors import UserError
from evlvideo.evaluation.ngrams import END_OF_TEXT, MAX_N, Counted, NgramTables, count_words, look_up, ranges, words_of

__all__ = ["END_OF_TEXT", "FREQUENCIES", "MAX_N", "SIGMA", "CiderD", "ReferenceCounts"]

SIGMA = 6.0
"""Standard deviation of the length penalty, in words."""
FREQUENCIES = ("split", "batch")
"""Where document frequencies may come from: all documents, or the references of the clips of one call."""


class ReferenceCounts(NamedTuple):
    """N-grams of the references of many clips: one entry for each n-gram of a clip that a reference holds.

    Entries are sorted by clip, n-gram and reference. `entries_from` and `ngrams_from` are where a clip, or an n-gram of
    a clip, starts; both have one element more at the end.
    """

    ngrams_from: np.ndarray  # (clips + 1) int64: into ngram_ids
    ngram_ids: np.ndarray  # (n-grams of all clips) int32, each clip's ascending
    entries_from: np.ndarray  # (n-grams of all clips + 1) int32: into the two below
    references: np.ndarray  # (entries) uint8 to int32: the reference's place among its clip's
    counts: np.ndarray  # (entries) uint8 to int32
    lengths_from: np.ndarray  # (clips + 1) int64: into lengths; a clip's number of references is the difference
    lengths: np.ndarray  # (references of all clips) uint8 to int32, in words


class _Batch(NamedTuple):
    """The part of the references that one call needs: C distinct clips, R references at most."""

    clip_of: np.ndarray  # (hypotheses) int64: which of the C
    ngram_keys: np.ndarray  # (n-grams) int64, ascending: clip × n-grams in total + n-gram
    entries_from: np.ndarray  # (n-grams) int64: into all entries
    entries: np.ndarray  # (n-grams) int64: how many
    lengths: np.ndarray  # (C, R) float64, in words
    there: np.ndarray  # (C, R) bool: whether the clip has so many references


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
        groups = [list(texts) for texts in references.values()]
        apart = None if document_references is None else [list(texts) for texts in document_references]
        if not (groups if apart is None else apart):
            raise UserError("CIDEr needs at least one document to count frequencies over; none was given.")
        tables, counted = count_words([*groups, *(apart or [])], end_of_text=end_of_text)
        documents = slice(0, None) if apart is None else slice(len(groups), None)
        frequencies = _document_frequencies(counted, tables.size, documents)
        self._set(list(references), tables, _compact(counted, len(groups)), frequencies, _documents(groups, apart))
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
        """Make a scorer of what another one was made of, its public attributes."""
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
        # The last entry is for all n-grams outside the tables: ln N.
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
            hypotheses: tokenised captions.
            clip_ids: the clip whose references each is compared with.
            ended: whether each caption ended before it was cut off; counts only with `end_of_text`.
            frequencies: `split` for those of the documents, or `batch` for those of the references of the clips in
                `clip_ids`, each of which is one document. Of one clip alone, every n-gram weighs nothing and every
                score is 0.

        Raises:
            UserError: a clip has no references, or `frequencies` is another word.
        """
        if frequencies not in FREQUENCIES:
            raise UserError(f"The frequencies are {frequencies!r}; allowed: {', '.join(FREQUENCIES)}.")
        if not hypotheses:
            return np.zeros(0)
        ended = [True] * len(hypotheses) if ended is None else ended
        clips = self._places(clip_ids)
        words = [
            words_of(text, end_of_text=self.end_of_text and finished)
            for text, _, finished in zip(hypotheses, clip_ids, ended, strict=True)
        ]
        distinct, clip_of = np.unique(clips, return_inverse=True)
        batch = self._batch(distinct, clip_of)
        if frequencies == "split":
            idf, squares = self._idf, self._split_squares()[:, _spans(self.references.lengths_from, distinct)]
            squares = _padded(squares, batch.there)
        else:
            idf = self._batch_idf(batch, len(distinct))
            squares = self._batch_squares(batch, idf)
        return self._compare(words, batch, idf, squares)

    def _places(self, clip_ids: Sequence[str]) -> np.ndarray:
        try:
            return np.array([self._clips[clip_id] for clip_id in clip_ids], np.int64)
        except KeyError as error:
            raise UserError(
                f"There are no references for the clip {error.args[0]!r}; give it to the scorer first."
            ) from error

    def _batch(self, clips: np.ndarray, clip_of: np.ndarray) -> _Batch:
        """Select the references of some clips, given by ascending places."""
        held = self.references
        of_ngrams = _spans(held.ngrams_from, clips)
        sizes = held.ngrams_from[clips + 1] - held.ngrams_from[clips]
        numbers = held.lengths_from[clips + 1] - held.lengths_from[clips]
        there = np.arange(numbers.max()) < numbers[:, None]
        start = held.entries_from[of_ngrams].astype(np.int64)
        return _Batch(
            clip_of=clip_of,
            ngram_keys=np.repeat(np.arange(len(clips)), sizes) * self.tables.size + held.ngram_ids[of_ngrams],
            entries_from=start,
            entries=held.entries_from[of_ngrams + 1] - start,
            lengths=_padded(held.lengths[_spans(held.lengths_from, clips)].astype(np.float64), there),
            there=there,
        )

    def _compare(self, words: list[list[str]], batch: _Batch, idf: np.ndarray, squares: np.ndarray) -> np.ndarray:
        """Score hypotheses; `squares` are the squared norms of the references, `(MAX_N, C, R)`."""
        hypotheses, most = len(words), batch.there.shape[1]
        found = self.tables.count(words)
        weights = found.counts * idf[found.ids]
        # N-grams outside the tables are summed apart, as whole numbers, so that their order is of no effect.
        own_squares = np.bincount(found.order * hypotheses + found.text, weights**2, minlength=MAX_N * hypotheses)
        own_squares = own_squares + found.unknown_squares.ravel() * idf[-1] ** 2

        place = look_up(batch.ngram_keys, batch.clip_of[found.text] * self.tables.size + found.ids)
        same = np.flatnonzero(place >= 0)
        place = place[same]
        pairs = batch.entries[place]
        entries = ranges(batch.entries_from[place], pairs)
        theirs = np.repeat(idf[found.ids[same]], pairs) * self.references.counts[entries]
        cells = np.repeat((found.order[same] * hypotheses + found.text[same]) * most, pairs)
        products = np.bincount(
            cells + self.references.references[entries],
            np.minimum(np.repeat(weights[same], pairs), theirs) * theirs,
            minlength=MAX_N * hypotheses * most,
        ).reshape(MAX_N, hypotheses, most)

        scale = np.sqrt(own_squares).reshape(MAX_N, hypotheses, 1) * np.sqrt(squares)[:, batch.clip_of]
        cosines = np.divide(products, scale, out=np.zeros(scale.shape), where=scale != 0).sum(axis=0)
        differences = np.array([len(text) for text in words])[:, None] - batch.lengths[batch.clip_of]
        cosines *= np.exp(differences**2 / (-2 * SIGMA**2))
        # Places of references that a clip does not have hold zeros; a running sum is blind to how many there are.
        sums = np.cumsum(cosines, axis=1)[:, -1]
        scores: np.ndarray = sums * 10 / (MAX_N * batch.there.sum(axis=1)[batch.clip_of])
        return scores

    def _split_squares(self) -> np.ndarray:
        """The squared norms of all references, `(MAX_N, references)`."""
        if self._squares is None:
            held = self.references
            clips = np.repeat(np.arange(len(self.clip_ids)), np.diff(held.ngrams_from))
            sizes = np.diff(held.entries_from)
            cells = np.repeat(
                self.tables.order_of(held.ngram_ids) * len(held.lengths) + held.lengths_from[clips], sizes
            )
            weights = np.repeat(self._idf[held.ngram_ids], sizes) * held.counts
            cells += held.references
            self._squares = np.bincount(cells, weights**2, minlength=MAX_N * len(held.lengths)).reshape(MAX_N, -1)
        return self._squares

    def _batch_idf(self, batch: _Batch, clips: int) -> np.ndarray:
        # Most n-grams are in no reference of the batch.
        idf = np.full(self.tables.size + 1, math.log(clips))
        ids, frequencies = np.unique(batch.ngram_keys % max(self.tables.size, 1), return_counts=True)
        idf[ids] = _idf(frequencies, clips)
        return idf

    def _batch_squares(self, batch: _Batch, idf: np.ndarray) -> np.ndarray:
        clips, ids = np.divmod(batch.ngram_keys, max(self.tables.size, 1))
        entries = ranges(batch.entries_from, batch.entries)
        count, most = batch.there.shape
        cells = np.repeat((self.tables.order_of(ids) * count + clips) * most, batch.entries)
        weights = np.repeat(idf[ids], batch.entries) * self.references.counts[entries]
        squares = np.bincount(cells + self.references.references[entries], weights**2, minlength=MAX_N * count * most)
        return squares.reshape(MAX_N, count, most)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, the words and ids left out."""
        arrays = [*self.references, *self.tables.keys, self.frequencies, self._idf, self._split_squares()]
        return sum(array.nbytes for array in arrays)


def _documents(groups: list[list[str]], apart: list[list[str]] | None) -> int:
    return len(groups) if apart is None else len(apart)


def _idf(frequencies: np.ndarray, documents: int) -> np.ndarray:
    idf: np.ndarray = math.log(documents) - np.log(np.maximum(frequencies, 1).astype(np.float64))
    return idf


def _document_frequencies(counted: Counted, size: int, documents: slice) -> np.ndarray:
    """In how many of the groups each n-gram is, `(n-grams)` int32."""
    first, _, _ = documents.indices(len(counted.groups_from) - 1)
    ids = counted.ids[counted.groups_from[first] :]
    groups = np.repeat(np.arange(first, len(counted.groups_from) - 1), np.diff(counted.groups_from[first:]))
    # Entries are sorted by group and n-gram, so that a new pair is where one of them changes.
    new = np.ones(len(ids), bool)
    new[1:] = (ids[1:] != ids[:-1]) | (groups[1:] != groups[:-1])
    return np.bincount(ids[new], minlength=size).astype(np.int32)


def _compact(counted: Counted, clips: int) -> ReferenceCounts:
    """Keep the first groups, in types no larger than needed."""
    end = counted.groups_from[clips]
    ids = counted.ids[:end]
    new = np.ones(end, bool)
    new[1:] = ids[1:] != ids[:-1]
    starts_of_clips = counted.groups_from[:clips]
    new[starts_of_clips[starts_of_clips < end]] = True
    entries_from = np.append(np.flatnonzero(new), end)
    references = counted.texts_from[clips]
    return ReferenceCounts(
        ngrams_from=np.searchsorted(entries_from, counted.groups_from[: clips + 1]),
        ngram_ids=ids[new].astype(np.int32),
        entries_from=_smallest(entries_from, np.int32),
        references=_smallest(counted.texts[:end]),
        counts=_smallest(counted.counts[:end]),
        lengths_from=counted.texts_from[: clips + 1],
        lengths=_smallest(counted.lengths[:references]),
    )


def _smallest(numbers: np.ndarray, least: type[np.generic] = np.uint8) -> np.ndarray:
    """Numbers that are not negative, in a type that holds them."""
    return numbers.astype(np.promote_types(np.min_scalar_type(int(numbers.max(initial=0))), least))


def _spans(starts: np.ndarray, which: np.ndarray) -> np.ndarray:
    """All places of some groups, where a group's places start at `starts` and end where the next one's start."""
    return ranges(starts[which], starts[which + 1] - starts[which])


def _padded(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Values of the places that are there, `(…, values)` → `(…, C, R)` with zeros elsewhere."""
    padded = np.zeros((*values.shape[:-1], *there.shape), values.dtype)
    padded[..., there] = values
    return padded

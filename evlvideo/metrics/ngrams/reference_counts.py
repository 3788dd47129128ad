"""Counted n-grams of the references of many clips, and lookups among those of a few.

CIDEr and BLEU ask the same of references: which n-grams of a caption the references of its clip have, and how often
each reference has them.
"""

from typing import NamedTuple

import numpy as np

from evlvideo.metrics.ngrams.tables import Counted, look_up, ranges, smallest


class ReferenceCounts(NamedTuple):
    """N-grams of the references of many clips: one entry for each n-gram of each reference.

    Entries are sorted by clip, n-gram and reference. `ngrams_from` and `entries_from` are the starts of a clip and of
    an n-gram of a clip, with the end as a last element.
    """

    ngrams_from: np.ndarray  # (clips + 1) int64: into ngram_ids
    ngram_ids: np.ndarray  # (n-grams of all clips) int32, each clip's ascending
    entries_from: np.ndarray  # (n-grams of all clips + 1) int32: into the two below
    references: np.ndarray  # (entries) uint8 to int32: the reference's index among its clip's
    counts: np.ndarray  # (entries) uint8 to int32
    lengths_from: np.ndarray  # (clips + 1) int64: into lengths; a clip's number of references is the difference
    lengths: np.ndarray  # (references of all clips) uint8 to int32, in words


class Selected(NamedTuple):
    """The references of C distinct clips, at most R a clip."""

    ngrams: int  # in the tables
    ngram_keys: np.ndarray  # (n-grams) int64, ascending: clip of the C × n-grams of the tables + n-gram
    entries_from: np.ndarray  # (n-grams) int64: into all entries
    entries: np.ndarray  # (n-grams) int64: how many
    lengths: np.ndarray  # (C, R) float64, in words
    there: np.ndarray  # (C, R) bool: whether the clip has this reference


class Match(NamedTuple):
    """N-grams of captions that occur in the references of their clips."""

    which: np.ndarray  # (matches) int64: indices of the n-grams that were looked up
    pairs: np.ndarray  # (matches) int64: references of the clip that have the n-gram
    entries: np.ndarray  # (all pairs) int64: the entry of each pair, match by match


def compact(counted: Counted, clips: int) -> ReferenceCounts:
    """Keep the first groups of counted texts, one a clip, in the smallest types."""
    end = counted.groups_from[clips]
    ids = counted.ids[:end]
    new = firsts(ids, counted.groups_from[:clips])
    entries_from = np.append(np.flatnonzero(new), end)
    references = counted.texts_from[clips]
    return ReferenceCounts(
        ngrams_from=np.searchsorted(entries_from, counted.groups_from[: clips + 1]),
        ngram_ids=ids[new],
        entries_from=smallest(entries_from, np.int32),
        references=smallest(counted.texts[:end]),
        counts=smallest(counted.counts[:end]),
        lengths_from=counted.texts_from[: clips + 1],
        lengths=smallest(counted.lengths[:references]),
    )


def firsts(ids: np.ndarray, groups_from: np.ndarray) -> np.ndarray:
    """Mark the first of equal ids in each group, `(entries)` bool. Ids ascend within a group."""
    new = np.ones(len(ids), bool)
    new[1:] = ids[1:] != ids[:-1]
    new[groups_from[groups_from < len(ids)]] = True
    return new


def select(held: ReferenceCounts, ngrams: int, clips: np.ndarray) -> Selected:
    """Select the references of some clips.

    Args:
        held: the references of all clips.
        ngrams: size of the tables.
        clips: ascending indices, without repeats.
    """
    of_ngrams = _spans(held.ngrams_from, clips)
    sizes = held.ngrams_from[clips + 1] - held.ngrams_from[clips]
    numbers = held.lengths_from[clips + 1] - held.lengths_from[clips]
    there = np.arange(numbers.max()) < numbers[:, None]
    start = held.entries_from[of_ngrams].astype(np.int64)
    return Selected(
        ngrams=ngrams,
        ngram_keys=np.repeat(np.arange(len(clips)), sizes) * ngrams + held.ngram_ids[of_ngrams],
        entries_from=start,
        entries=held.entries_from[of_ngrams + 1] - start,
        lengths=padded(held.lengths[references_of(held, clips)].astype(np.float64), there),
        there=there,
    )


def match(selected: Selected, clips: np.ndarray, ids: np.ndarray) -> Match:
    """Look n-grams up among those of the references.

    Args:
        selected: the references.
        clips: for each n-gram, the index of its caption's clip among the selected ones, `(n-grams)`.
        ids: ids of the n-grams, `(n-grams)`.
    """
    index = look_up(selected.ngram_keys, clips * selected.ngrams + ids)
    which = np.flatnonzero(index >= 0)
    index = index[which]
    pairs = selected.entries[index]
    return Match(which, pairs, ranges(selected.entries_from[index], pairs))


def ngrams_of(held: ReferenceCounts, clips: np.ndarray) -> np.ndarray:
    """Return the n-gram ids of some clips' references, clip by clip, each id once a clip."""
    ids: np.ndarray = held.ngram_ids[_spans(held.ngrams_from, clips)]
    return ids


def references_of(held: ReferenceCounts, clips: np.ndarray) -> np.ndarray:
    """Return the indices of some clips' references among all."""
    return _spans(held.lengths_from, clips)


def padded(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Scatter values to where `there` is true, `(…, values)` → `(…, C, R)`, with zeros elsewhere."""
    whole = np.zeros((*values.shape[:-1], *there.shape), values.dtype)
    whole[..., there] = values
    return whole


def _spans(starts: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Return the indices of the elements of some groups, whose elements start at `starts`."""
    return ranges(starts[which], starts[which + 1] - starts[which])

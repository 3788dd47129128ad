"""The counted n-grams of the references of many clips, and those of some of the clips at hand for a comparison.

What CIDEr and BLEU ask of references is the same: which of a caption's n-grams the references of its clip have, and
how often each of them has it.
"""

from typing import NamedTuple

import numpy as np

from evlvideo.metrics.ngrams.tables import Counted, look_up, ranges, smallest


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


class Selected(NamedTuple):
    """The references of C distinct clips, R of one clip at most."""

    ngrams: int  # in the tables
    ngram_keys: np.ndarray  # (n-grams) int64, ascending: clip of the C × n-grams of the tables + n-gram
    entries_from: np.ndarray  # (n-grams) int64: into all entries
    entries: np.ndarray  # (n-grams) int64: how many
    lengths: np.ndarray  # (C, R) float64, in words
    there: np.ndarray  # (C, R) bool: whether the clip has so many references


class Match(NamedTuple):
    """N-grams of captions that the references of their clips have."""

    which: np.ndarray  # (matches) int64: which of the n-grams that were looked up
    pairs: np.ndarray  # (matches) int64: references of the clip that have the n-gram
    entries: np.ndarray  # (all pairs) int64: the entry of each, one match after the other


def compact(counted: Counted, clips: int) -> ReferenceCounts:
    """Keep the first groups of counted texts, one a clip, in types no larger than needed."""
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
    """Mark the first of the equal ids of a group, `(entries)` bool, where those of a group are ascending."""
    new = np.ones(len(ids), bool)
    new[1:] = ids[1:] != ids[:-1]
    new[groups_from[groups_from < len(ids)]] = True
    return new


def select(held: ReferenceCounts, ngrams: int, clips: np.ndarray) -> Selected:
    """Take the references of some clips.

    Args:
        held: of all clips.
        ngrams: how many there are in the tables.
        clips: ascending places, each once.
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
        clips: for each n-gram, the clip of its caption, `(n-grams)`, as a place among the selected ones.
        ids: of the n-grams, `(n-grams)`.
    """
    place = look_up(selected.ngram_keys, clips * selected.ngrams + ids)
    which = np.flatnonzero(place >= 0)
    place = place[which]
    pairs = selected.entries[place]
    return Match(which, pairs, ranges(selected.entries_from[place], pairs))


def ngrams_of(held: ReferenceCounts, clips: np.ndarray) -> np.ndarray:
    """Ids of the n-grams of some clips' references, each once for a clip, one clip after the other."""
    ids: np.ndarray = held.ngram_ids[_spans(held.ngrams_from, clips)]
    return ids


def references_of(held: ReferenceCounts, clips: np.ndarray) -> np.ndarray:
    """Places of some clips' references among all."""
    return _spans(held.lengths_from, clips)


def padded(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Values of the places that are there, `(…, values)` → `(…, C, R)` with zeros elsewhere."""
    whole = np.zeros((*values.shape[:-1], *there.shape), values.dtype)
    whole[..., there] = values
    return whole


def _spans(starts: np.ndarray, which: np.ndarray) -> np.ndarray:
    """All places of some groups, where a group's places start at `starts` and end where the next one's start."""
    return ranges(starts[which], starts[which + 1] - starts[which])

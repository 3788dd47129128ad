"""N-grams as numbers: tables that give every n-gram of a corpus an id, and counts of them in texts.

Words are numbered. An n-gram is a pair of the (n − 1)-gram before its last word and that word; as one number,
`id × words + word`, pairs stand in a sorted table, and the place there is the id. So a table of a million n-grams is
eight million bytes, looked up for a whole batch by one binary search, and exact: nothing is hashed.
"""

from collections.abc import Sequence
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np

MAX_N = 4
"""Longest n-grams."""
_GROUPS = 4096
"""Groups that are sorted together; more take memory and are no faster."""
_NOTHING = (np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.uint8), np.zeros(0, np.uint8))
END_OF_TEXT = "<end of text>"
"""The word that stands for the end of a caption. It holds spaces, so that no word of a caption equals it."""


class Counted(NamedTuple):
    """N-grams of texts in groups; one entry for each n-gram of each text, sorted by group, n-gram and text."""

    groups_from: np.ndarray  # (groups + 1) int64: where the entries of a group start
    ids: np.ndarray  # (entries) int32
    texts: np.ndarray  # (entries) uint8 to int32: the text's place in its group
    counts: np.ndarray  # (entries) uint8 to int32
    texts_from: np.ndarray  # (groups + 1) int64: where the texts of a group start
    lengths: np.ndarray  # (texts) int64, in words


class Found(NamedTuple):
    """N-grams of a few texts: those of the tables, sorted by order, text and id, and the sizes of the others."""

    order: np.ndarray  # (entries) int64: n − 1
    text: np.ndarray  # (entries) int64
    ids: np.ndarray  # (entries) int64
    counts: np.ndarray  # (entries) int64
    unknown_squares: np.ndarray  # (MAX_N, texts) float64: sum of the squared counts of n-grams outside the tables


class NgramTables:
    """Ids of n-grams: first the words', then those of two words, and so on.

    Args:
        words: by their number.
        keys: for n = 2…4, the n-grams in ascending order, each as `place of its beginning among the (n − 1)-grams ×
            words + number of its last word`.
    """

    def __init__(self, words: Sequence[str], keys: Sequence[np.ndarray]) -> None:
        self.words = words
        self.keys = list(keys)
        self._numbers = {word: number for number, word in enumerate(words)}
        self.starts = np.cumsum([0, len(words), *map(len, keys)])
        """The first id of each n, and the number of ids."""

    @property
    def size(self) -> int:
        """Number of n-grams."""
        return int(self.starts[-1])

    def order_of(self, ids: np.ndarray) -> np.ndarray:
        """Return n − 1 for every id."""
        return np.searchsorted(self.starts[1:-1], ids, side="right")

    def count(self, texts: Sequence[Sequence[str]]) -> Found:
        """Count the n-grams of some texts, given as words."""
        numbers, words = self._word_numbers(texts)
        text_of, left = _layout(np.fromiter(map(len, texts), np.int64, len(texts)))
        unknown_squares = np.zeros((MAX_N, len(texts)))
        parts = []
        places, ids = np.arange(len(numbers)), numbers
        for order in range(MAX_N):
            if order:
                goes_on = left[places] > order
                places = places[goes_on]
                ids = self._longer(order, ids[goes_on], numbers[places + order], words)
            size = self.starts[order + 1] - self.starts[order]
            span = max(int(size), int(ids.max(initial=0)) + 1)
            pairs, counts = np.unique(text_of[places] * span + ids, return_counts=True)
            text, found = np.divmod(pairs, span)
            known = found < size
            text_known = text[known]
            parts.append(
                (np.full(len(text_known), order), text_known, found[known] + self.starts[order], counts[known])
            )
            unknown = ~known
            unknown_squares[order] = np.bincount(text[unknown], counts[unknown] ** 2.0, minlength=len(texts))
        order_of, text_of, ids, counts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Found(order_of, text_of, ids, counts, unknown_squares)

    def _word_numbers(self, texts: Sequence[Sequence[str]]) -> tuple[np.ndarray, int]:
        """Return the number of every word, and how many there are with those that are new."""
        flat = list(chain.from_iterable(texts))
        numbers = np.fromiter(map(self._numbers.get, flat, repeat(-1)), np.int64, len(flat))
        new: dict[str, int] = {}
        for place in np.flatnonzero(numbers < 0).tolist():
            numbers[place] = new.setdefault(flat[place], len(self.words) + len(new))
        return numbers, len(self.words) + len(new)

    def _longer(self, order: int, beginnings: np.ndarray, last: np.ndarray, words: int) -> np.ndarray:
        """Return the places of n-grams in their table, or numbers beyond its size, equal for equal n-grams."""
        table, shorter = self.keys[order - 1], self.starts[order] - self.starts[order - 1]
        ids = look_up(table, beginnings * len(self.words) + last)
        ids[(beginnings >= shorter) | (last >= len(self.words))] = -1
        unknown = ids < 0
        ids[unknown] = len(table) + np.unique(beginnings[unknown] * words + last[unknown], return_inverse=True)[1]
        return ids


def words_of(text: str, *, end_of_text: bool) -> list[str]:
    """Return the words of a tokenised text, with its end as one more where that counts."""
    words = text.split()
    if end_of_text:
        words.append(END_OF_TEXT)
    return words


def count_words(groups: Sequence[Sequence[str]], *, end_of_text: bool) -> tuple[NgramTables, Counted]:
    """Number and count the n-grams of tokenised texts in groups, such as the references of clips."""
    numbered: dict[str, int] = {}
    flat: list[int] = []
    lengths: list[int] = []
    for text in chain.from_iterable(groups):
        words = words_of(text, end_of_text=end_of_text)
        flat += [numbered.setdefault(word, len(numbered)) for word in words]
        lengths.append(len(words))
    numbers, word_lengths = np.array(flat, np.int64), np.array(lengths, np.int64)
    keys, ids, text_of = _number_ngrams(numbers, word_lengths, len(numbered))
    tables = NgramTables(list(numbered), keys)
    texts_from = starts(np.fromiter(map(len, groups), np.int64, len(groups)))
    parts = [
        _count_groups(tables.size, ids, text_of, texts_from[first : first + _GROUPS + 1])
        for first in range(0, len(groups), _GROUPS)
    ]
    sizes, ngrams, texts, counts = (np.concatenate(arrays) for arrays in zip(_NOTHING, *parts, strict=True))
    return tables, Counted(starts(sizes), ngrams, texts, counts, texts_from, word_lengths)


def _count_groups(
    size: int, ids: Sequence[np.ndarray], text_of: Sequence[np.ndarray], texts_from: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Count the n-grams of some groups, whose texts start at `texts_from`.

    Args:
        size: number of n-grams in the tables.
        ids: for each n, of every n-gram of every text.
        text_of: for each n, the text of every n-gram, ascending.
        texts_from: where the texts of a group start, and the last one's end.

    Returns:
        entries of each group; and, sorted by group, n-gram and text, the id, the text and the count of every entry.
    """
    first, end = texts_from[0], texts_from[-1]
    spans = [slice(*np.searchsorted(texts, [first, end])) for texts in text_of]
    text = np.concatenate([texts[span] for texts, span in zip(text_of, spans, strict=True)]) - first
    numbers = np.diff(texts_from)
    most = int(numbers.max(initial=1))
    group_of_text = np.repeat(np.arange(len(numbers)), numbers)
    place_of_text = np.arange(end - first) - (texts_from[:-1] - first)[group_of_text]
    # Group, n-gram and text as one number, to sort by all three.
    entries = group_of_text[text] * max(size, 1)
    entries += np.concatenate([of_order[span] for of_order, span in zip(ids, spans, strict=True)])
    entries, counts = np.unique(entries * most + place_of_text[text], return_counts=True)
    pairs, texts = np.divmod(entries, most)
    group, found = np.divmod(pairs, max(size, 1))
    return np.bincount(group, minlength=len(numbers)), found.astype(np.int32), smallest(texts), smallest(counts)


def smallest(numbers: np.ndarray, least: type[np.generic] = np.uint8) -> np.ndarray:
    """Numbers that are not negative, in a type that holds them."""
    return numbers.astype(np.promote_types(np.min_scalar_type(int(numbers.max(initial=0))), least))


def _number_ngrams(
    numbers: np.ndarray, lengths: np.ndarray, words: int
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Return the tables of n = 2…4, and for each n the id and the text of every n-gram there is."""
    text_of, left = _layout(lengths)
    places, ids, start = np.arange(len(numbers)), numbers, words
    keys, all_ids, all_texts = [], [numbers.astype(np.int32)], [text_of.astype(np.int32)]
    for order in range(1, MAX_N):
        goes_on = left[places] > order
        places = places[goes_on]
        table, ids = np.unique(ids[goes_on] * words + numbers[places + order], return_inverse=True)
        keys.append(table)
        all_ids.append((ids + start).astype(np.int32))
        all_texts.append(text_of[places].astype(np.int32))
        start += len(table)
    return keys, all_ids, all_texts


def look_up(table: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return the place of each key in an ascending table, or −1."""
    if not len(table):
        return np.full(len(keys), -1)
    # Keys in ascending order touch the table in ascending order, which is six times as fast as at random.
    order = np.argsort(keys)
    places = np.empty(len(keys), np.int64)
    places[order] = np.minimum(np.searchsorted(table, keys[order]), len(table) - 1)
    places[table[places] != keys] = -1
    return places


def _layout(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For texts one after the other: the text of every word, and the words from it to the end of its text."""
    return np.repeat(np.arange(len(lengths)), lengths), np.repeat(np.cumsum(lengths), lengths) - np.arange(
        lengths.sum()
    )


def starts(sizes: np.ndarray) -> np.ndarray:
    """Where each of several runs starts, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(sizes)])


def ranges(first: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """`first[0], first[0] + 1, …` as many as `lengths[0]`, then those of the next."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(first - ends + lengths, lengths) + np.arange(total)

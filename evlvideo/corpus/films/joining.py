"""Make cues of the captions of a film's parts: near-equal neighbors joined, times without overlap."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

SAME_WORDS = 0.8
"""Share of words that near-equal captions have in common, of all words of either."""
_GAP_SECONDS = 0.5
"""Longest time between neighbors. Where a part of a film has no caption, cues do not reach over it."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A text shown from one time to another."""

    start: float
    """Seconds from the start of the film."""
    end: float
    """Seconds from the start of the film."""
    text: str


def join_captions(captions: Iterable[Cue], same_words: float = SAME_WORDS) -> list[Cue]:
    """Join near-equal neighbors, and share the time where neighbors overlap equally between them.

    A joined cue has the text that covers most of its time. Later captions are compared with the first of a cue, so
    that a description that changes word by word over an hour does not become one cue.

    Args:
        captions: captions of parts of one film, in any order. Those without words, and those whose end is not after
            their start, are left out.
        same_words: share of common words from which on two captions are near-equal; above 1, only captions that are
            equal up to case and punctuation are joined.

    Returns:
        cues in the order of time; each ends before or when the next starts.
    """
    known = [caption for caption in captions if words_of(caption.text) and caption.end > caption.start]
    groups: list[list[Cue]] = []
    for caption in sorted(known, key=lambda cue: (cue.start, cue.end)):
        if groups and _belongs(caption, groups[-1], same_words):
            groups[-1].append(caption)
        else:
            groups.append([caption])
    return _without_overlap([_joined(group) for group in groups])


def words_of(text: str) -> list[str]:
    """Return the words of a caption without case and punctuation; a symbol, such as an emoji, is a word too."""
    kept = "".join(
        " " if unicodedata.category(character).startswith(("P", "Z", "C")) else character
        for character in unicodedata.normalize("NFKC", text).casefold()
    )
    return kept.split()


def common_words(one: Sequence[str], other: Sequence[str]) -> float:
    """Return the share of distinct words that two captions have in common, of all words of either, in 0 … 1."""
    words, others = set(one), set(other)
    return len(words & others) / max(len(words | others), 1)


def _belongs(caption: Cue, group: Sequence[Cue], same_words: float) -> bool:
    if caption.start > max(cue.end for cue in group) + _GAP_SECONDS:
        return False
    words, others = words_of(caption.text), words_of(group[0].text)
    return words == others or common_words(words, others) >= same_words


def _joined(group: Sequence[Cue]) -> Cue:
    seconds: dict[str, float] = {}
    for cue in group:
        seconds[cue.text] = seconds.get(cue.text, 0.0) + cue.end - cue.start
    # Of equals, the first.
    text = max(seconds, key=lambda candidate: seconds[candidate])
    return Cue(group[0].start, max(cue.end for cue in group), text)


def _without_overlap(cues: Sequence[Cue]) -> list[Cue]:
    """Let cues that overlap meet in the middle of what they share; leave out those of which nothing remains."""
    placed: list[Cue] = []
    for cue in cues:
        start = cue.start
        if placed and start < placed[-1].end:
            last = placed[-1]
            start = (max(start, last.start) + min(cue.end, last.end)) / 2
            if start <= last.start:
                continue
            placed[-1] = replace(last, end=start)
        if start < cue.end:
            placed.append(replace(cue, start=start))
    return placed

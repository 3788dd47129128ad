"""VQA's normalization of answers, step by step as in its evaluator of 2021, which other evaluators copied.

Source: GT-Vision-Lab/VQA, `vqaEval.py`. Its three peculiarities are kept, since published numbers rest on them: whether
a mark becomes a space is decided by the text before any was replaced; a comma between digits deletes every mark; and at
most 32 periods are deleted, as a flag stands where the count belongs.
"""

import re
from functools import lru_cache

MARKS = ';/[]"{}()=+\\_-><@`,?!'
"""Deleted or replaced with a space, in this order. `. : ' $ % & # *` are not among them."""
ARTICLES = frozenset({"a", "an", "the"})
NUMBERS = {
    word: str(value)
    for value, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
} | {"none": "0"}
_CONTRACTED = """
    ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't mightn't mustn't needn't oughtn't
    shan't shouldn't wasn't weren't won't wouldn't
    could've might've must've not've should've they've we've what've where've who've would've you've
    he'd how'd it'd someone'd something'd there'd they'd where'd who'd you'd
    he's how's somebody's someone's that's there's what's when's where's who's why's
    how'll it'll somebody'll someone'll something'll they'll what'll who'll why'll you'll
    there're they're what're why're you're
    ma'am o'clock 'twas y'all y'all'll y'all'd've 'ow's'at
    couldn't've hadn't've mightn't've shouldn't've wouldn't've
    he'd've it'd've she'd've somebody'd've someone'd've something'd've there'd've they'd've we'd've who'd've
    you'd've
"""
CONTRACTIONS = {
    word[:place] + word[place + 1 :]: word
    for word in _CONTRACTED.split()
    for place in (match.start() for match in re.finditer("'", word))
} | {"somebody'd": "somebodyd"}
"""Words that lack one apostrophe → the whole word; and one entry that is backwards in the source.

Six of the source's 120 are left out, since they change nothing: two hold the whole word already, and four begin with a
capital, which lower-cased text never does."""

_COMMA_IN_NUMBER = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_MOST_PERIODS = 32


def one_line(text: str) -> str:
    """Replace line ends and tabs with spaces, and strip."""
    return text.replace("\n", " ").replace("\t", " ").strip()


def without_punctuation(text: str) -> str:
    """Delete marks, or replace them with a space; delete periods that no digit follows."""
    in_number = _COMMA_IN_NUMBER.search(text) is not None
    replaced = text
    for mark in MARKS:
        if mark in text:
            alone = in_number or f"{mark} " in text or f" {mark}" in text
            replaced = replaced.replace(mark, "" if alone else " ")
    return _PERIOD.sub("", replaced, count=_MOST_PERIODS)


def normal_words(text: str) -> str:
    """Lower the case, write numbers up to ten as digits, drop articles, and complete contractions."""
    numbered = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in numbered if word not in ARTICLES)


@lru_cache(maxsize=1 << 16)
def normalized(text: str) -> str:
    """Apply all steps but :func:`one_line`. Results are kept, since most answers are common ones."""
    return normal_words(without_punctuation(text))

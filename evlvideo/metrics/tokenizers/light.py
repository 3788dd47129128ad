"""A tokeniser of captions that needs no Java and follows the PTB conventions that pycocoevalcap's scores are built on.

Lower case; contractions and possessives split (`don't` → `do n't`, `dog's` → `dog 's`, `gonna` → `gon na`); hyphenated
words, numbers, abbreviations, addresses and words joined by a slash kept whole; brackets written `-lrb-` …; the
punctuation of :data:`PUNCTUATION` dropped, which leaves brackets and symbols in. The rules were written from the PTB
tokeniser's output, not from its grammar: words are the same on ordinary captions, and what is known to differ stands in
the tests.
"""

import hashlib
import re
from functools import lru_cache

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
"""What pycocoevalcap drops after tokenisation. Its brackets are in upper case, so lower-case brackets stay."""

_ASSIMILATED = {
    "cannot": "can not",
    "gonna": "gon na",
    "gotta": "got ta",
    "wanna": "wan na",
    "gimme": "gim me",
    "lemme": "lem me",
}
_SAME = {"“": '"', "”": '"', "«": '"', "»": '"', "\u2018": "'", "’": "'", "\u2039": "'", "\u203a": "'", "\u201b": "'",
         "–": "--", "—": "--", "…": " ... ", "\u200b": " ", "\u00ad": "",
         "€": "$", "£": "#", "¢": " cents ", "½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3",
         "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&nbsp;": " "}  # fmt: skip
_TO_ASCII = re.compile("|".join(re.escape(symbol) for symbol in _SAME))
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_BRACKET = re.compile(r"[][(){}]")

_ABBREVIATIONS = (
    "mr mrs ms messrs dr drs prof st sgt capt col maj lt gen rep reps sen gov pres rev hon jr sr bros inc ltd co corp "
    "mfg est dept univ assn ave blvd rd mt ft vs etc tel "
    "jan feb mar apr jun jul aug sept oct nov dec mon tue tues wed thu thurs fri"
).replace(" ", "|")

_LETTER = r"[^\W\d_]"
_END = r"(?![^\W_])"
_TOKEN = re.compile(
    rf"""
      -[lr][rcs]b-
    | (?:https?://|www\.)[^\s"<>|()]*[^\s"<>|().,;:!?']                    # addresses
    | \w[\w.+-]*@\w+(?:[.-]\w+)*
    | [#@]{_LETTER}\w*                                                     # hash tags and handles
    | </?[a-z][^<>]*>                                                      # markup
    | [:;=]'?-?[()dp](?!\w) | \^_\^                                        # faces
    | (?-i:[A-Z]+&[A-Z]+)                                                  # names like R&B, in upper case only
    | '(?:[2-9]0s|till?|em|cause|n)(?!\w)'? | 't(?=is\b|was\b)
    | '(?:s|m|d|ll|re|ve){_END} | n't{_END}
    | [-+]?(?:\d+(?:[.,:]\d+)*|(?:[.,:]\d+)+)(?:/\d+){{0,2}}(?![^\W_]|[-_/]\w|[.,:]\d)   # numbers
    | \d+(?:[.:]\d+)+                                                      # before a unit, as in 10:30pm
    | (?:{_ABBREVIATIONS})\.(?!\w) | no\.(?=\s*\d|\s*\Z)
    | {_LETTER}\.(?![^\W\d_]) | {_LETTER}+(?:\.{_LETTER})+\.(?![^\W_])     # initials and acronyms
    | (?:ma'am|c'mon|s'mores|ne'er|ol'|o'(?=\w)|[dlj]'(?=\w))[^\W_]*(?:-[^\W_]+)* | y'(?={_LETTER})
    | {_LETTER}+?(?=n't{_END})                                             # what a contraction stands on
    | c\+\+ | c\#
    | {_LETTER}+(?:[.!?]{_LETTER}+)+                                       # joined by a full stop
    | [^\W_]+(?:[-_/][^\W_]+)*                                             # words
    | \.\.+ | --+ | ''? | ``? | [!?]+ | \*+ | >> | << | __+ | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)
_DROPPED = re.compile(r"['\"`.,:;?!-]|''|``|\.\.+|--+|[\ufe00-\ufe0f\U00010000-\U0010ffff]")
# What follows, or an end far away, decides about these, so they are not cut at white space first.
_NEEDS_CONTEXT = re.compile(r"\bno\.|<", re.IGNORECASE)

_RULES = (_TOKEN.pattern, _DROPPED.pattern, _NEEDS_CONTEXT.pattern, _SAME, _BRACKETS, _ASSIMILATED)
RULES_SHA256 = hashlib.sha256(repr(_RULES).encode()).hexdigest()
"""Digest of the rules, for what is stored of their words."""


def light_tokenize(caption: str) -> str:
    """Return the words of one caption, lower-case, separated by single spaces.

    The caption is on one line (:func:`evlvideo.metrics.tokenizers.tokenize.clean`).
    """
    text = caption
    if "&" in text or not text.isascii():
        text = _TO_ASCII.sub(lambda found: _SAME[found.group()], text)
    # Most captions are done with by the first two tests, in a tenth of the expression's time.
    whole = ("." in text or "<" in text) and _NEEDS_CONTEXT.search(text)
    return " ".join(filter(None, map(_words, [text] if whole else text.split())))


@lru_cache(maxsize=1 << 16)
def _words(chunk: str) -> str:
    if chunk.isascii() and chunk.isalnum():
        word = chunk.lower()
        return _ASSIMILATED.get(word, word)
    words = (word.lower() for word in _TOKEN.findall(chunk) if not _DROPPED.fullmatch(word))
    return " ".join(
        _ASSIMILATED.get(word) or _BRACKET.sub(lambda found: _BRACKETS[found.group()], word) for word in words
    )

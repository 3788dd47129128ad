"""A tokenizer for scripts that are written without spaces, such as Chinese, Japanese and Thai.

Each character of such a script is a word, with the marks on it, as is each run of other letters and digits, lower-case.
Punctuation and symbols are dropped. Full-width and half-width forms are one. No published score is tokenized this way.
"""

import hashlib
import unicodedata
from collections.abc import Iterable

import regex

_SCRIPTS = ("Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Yi", "Javanese")
_WRITTEN = r"[\p{L}\p{M}\p{N}]"
_SPACELESS = "[[" + "".join(rf"\p{{scx={name}}}" for name in _SCRIPTS) + f"]&&{_WRITTEN}]"
_CHARACTER = regex.compile(rf"(?V1)(?={_SPACELESS})\X")
_WORD = regex.compile(rf"(?V1)(?={_SPACELESS})\X|[{_WRITTEN}--{_SPACELESS}]+")
_WIDE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Yi}]")
_WIDTHS = regex.compile(r"[\uff00-\uffef]+")
_LONGEST_WORDS = 5
"""Characters in a word between spaces, on average, above which sentences were not split into words. A wide character
counts as two, since words have fewer of them."""

RULES_SHA256 = hashlib.sha256(_WORD.pattern.encode()).hexdigest()
"""Digest of the rules, for files that store their words."""


def characters_tokenize(caption: str) -> str:
    """Return the characters and words of one caption, lower-case, separated by single spaces."""
    # NFKC alone would take the vowels of Thai apart.
    one_width = _WIDTHS.sub(lambda found: unicodedata.normalize("NFKC", found.group()), caption)
    return " ".join(_WORD.findall(unicodedata.normalize("NFC", one_width).lower()))


def count_unsplit(captions: Iterable[str]) -> int:
    """Count the captions in scripts without spaces, unless they are split into words by spaces."""
    count = characters = chunks = 0
    for caption in captions:
        if caption.isascii() or not (found := _CHARACTER.findall(caption)):
            continue
        count += 1
        characters += sum(2 if _WIDE.match(character) else 1 for character in found)
        chunks += sum(_CHARACTER.search(chunk) is not None for chunk in caption.split())
    return count if characters > _LONGEST_WORDS * chunks else 0

"""Tokenize captions for the metrics, with any tokenizer.

`ptb` is Stanford's PTB tokenizer, which published caption scores use (:mod:`evlvideo.metrics.tokenizers.ptb`). `python`
follows its conventions without Java (:mod:`evlvideo.metrics.tokenizers.light`). `characters` is for scripts without
spaces (:mod:`evlvideo.metrics.tokenizers.characters`).
"""

import re
from collections.abc import Mapping, Sequence

from evlvideo.errors import UserError
from evlvideo.metrics.java import find_java
from evlvideo.metrics.tokenizers.characters import characters_tokenize
from evlvideo.metrics.tokenizers.light import light_tokenize
from evlvideo.metrics.tokenizers.ptb import ptb_tokenize

TOKENIZERS = ("ptb", "python", "characters")
"""Names of the tokenizers."""

# White space of every kind, control characters, and lone surrogates, which cannot be encoded.
_NOT_TEXT = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")


def clean(caption: str) -> str:
    """Return the caption on one line: white space and control characters become single spaces, none at the ends."""
    return _NOT_TEXT.sub(" ", caption).strip()


def tokenize(captions: Mapping[str, Sequence[str]], tokenizer: str = "ptb") -> dict[str, list[str]]:
    """Tokenize the captions of every clip in one pass.

    Returns:
        the same clips, in the same order, with words separated by single spaces; a caption without words is empty.

    Raises:
        UserError: the tokenizer is unknown, or is `ptb` and cannot run.
    """
    lines = iter(tokenize_lines([caption for group in captions.values() for caption in group], tokenizer))
    return {clip_id: [next(lines) for _ in group] for clip_id, group in captions.items()}


def tokenize_lines(captions: Sequence[str], tokenizer: str = "ptb") -> list[str]:
    """Tokenize captions in one pass: one line of words for each caption, in order.

    Raises:
        UserError: the tokenizer is unknown, or is `ptb` and cannot run.
    """
    cleaned = [clean(caption) for caption in captions]
    if tokenizer == "python":
        return [light_tokenize(caption) for caption in cleaned]
    if tokenizer == "characters":
        return [characters_tokenize(caption) for caption in cleaned]
    if tokenizer == "ptb":
        return ptb_tokenize(cleaned)
    raise UserError(f"The tokenizer {tokenizer!r} is unknown; allowed: {', '.join(TOKENIZERS)}.")


def default_tokenizer() -> str:
    """Return `ptb` if Java runs, else `python`."""
    return "python" if find_java() is None else "ptb"

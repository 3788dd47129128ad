"""Questions as the published models saw them."""

import re

MAX_WORDS = 50
"""Words that a question keeps."""
_MARKS = re.compile(r"[.!\"()*#:;~]")


def clean_question(text: str) -> str:
    """Clean a question as the published `blip_question`: lower case, no marks but `?` and `,`, at most 50 words.

    Source: LAVIS, as EVLGen uses it. Tokens of the language model then are those that it was asked with.
    """
    return " ".join(_MARKS.sub("", text.lower()).rstrip(" ").split(" ")[:MAX_WORDS])

"""Remarks on scores that say little, whatever the captions."""

from collections.abc import Mapping, Sequence

from evlvideo.metrics.sentence_scores import ngrams
from evlvideo.metrics.tokenizers.characters import count_unsplit

CHARACTERS_REMARK = (
    "Tokenized by characters: these scores compare only with scores of the same tokenizer, and with no published "
    "number."
)
_ENOUGH = 0.1
"""Share of unsplit references from which scores suffer."""


def script_remarks(references: Mapping[str, Sequence[str]], tokenizer: str) -> list[str]:
    """Say if references, as people wrote them, are split into other words than the metrics need.

    Args:
        references: clip → captions.
        tokenizer: the tokenizer that splits them.
    """
    if tokenizer == "characters":
        return [CHARACTERS_REMARK]
    texts = [text for of_clip in references.values() for text in of_clip]
    unsplit = count_unsplit(texts)
    if not unsplit or unsplit < _ENOUGH * len(texts):
        return []
    return [
        f"{unsplit:,} of {len(texts):,} references are in a script without spaces between words, so that whole "
        "sentences count as words, and BLEU, ROUGE-L and CIDEr are near 0 for good captions too; score by characters: "
        "data.scoring_tokenizer=characters, or --tokenizer characters in a command without a config."
    ]


def cider_remarks(references: Mapping[str, Sequence[str]]) -> list[str]:
    """Say if CIDEr is 0 for any captions, since it weighs words by how few clips have them.

    Args:
        references: clip → captions, with words separated by spaces.
    """
    if len(references) == 1:
        return ["CIDEr is 0 for any caption of a single clip, since it weighs words by how few clips have them."]
    sets = (frozenset(ngram for text in texts for ngram in ngrams(text.split())) for texts in references.values())
    first = next(sets, frozenset())
    if first and all(other == first for other in sets):
        return [
            "CIDEr is 0 for any captions, since the references of all clips are alike, and it weighs words by how few "
            "clips have them."
        ]
    return []

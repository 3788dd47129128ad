"""How far the captions of a clip agree, as those that a model samples."""

from collections.abc import Mapping, Sequence

from evlvideo.errors import UserError
from evlvideo.metrics.cider import CiderD
from evlvideo.metrics.tokenizers.tokenize import tokenize

TOKENIZER = "python"
"""Gives the same scores with Java and without."""


def agreement(captions: Mapping[str, Sequence[str]]) -> dict[str, list[float | None]]:
    """Score each caption by its CIDEr-D against the other captions of its clip.

    Document frequencies are those of all captions, one document a clip.

    Args:
        captions: clip → its captions.

    Returns:
        clip → a score of each caption in CIDEr points, from 0 to 1,000; None for one without others.

    Raises:
        UserError: no clip has two captions.
    """
    words = tokenize(captions, TOKENIZER)
    several = {clip: texts for clip, texts in words.items() if len(texts) > 1}
    if not several:
        raise UserError(
            "Every clip has a single caption, which nothing can agree with; make several, as with "
            "`evlvideo caption --captions 5 --set generation.do_sample=true --out …`."
        )
    places = [(clip, place) for clip, texts in several.items() for place in range(len(texts))]
    others = {
        f"{number}": [text for at, text in enumerate(several[clip]) if at != place]
        for number, (clip, place) in enumerate(places)
    }
    scores = CiderD(others, words.values()).score_all([several[clip][place] for clip, place in places], list(others))
    found: dict[str, list[float | None]] = {clip: [None] * len(texts) for clip, texts in words.items()}
    for (clip, place), score in zip(places, scores.tolist(), strict=True):
        found[clip][place] = 100 * score
    return found

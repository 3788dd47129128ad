"""Lemmas of answers, as BLIP-2 scores OK-VQA: nouns and verbs in their basic form, other words as written.

Source: LAVIS, `blip2_models/blip2_opt.py`. OK-VQA's own references have been brought into basic forms by other rules.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from evlvideo.errors import UserError

MODEL = "en_core_web_sm"
HOW_TO_GET = f"pip install 'evlvideo[lemmas]' && python -m spacy download {MODEL}"
"""Installs spaCy and its model, which is not on PyPI."""

_LEMMATIZED = ("NOUN", "VERB")


def lemmatized(answers: Mapping[str, str]) -> dict[str, str]:
    """Replace the nouns and verbs of answers with their lemmas. Equal answers are read once.

    Raises:
        UserError: spaCy or its model is not installed.
    """
    different = list(dict.fromkeys(answers.values()))
    documents = _model().pipe(different)
    lemmas = {text: _lemmas(document) for text, document in zip(different, documents, strict=True)}
    return {question_id: lemmas[text] for question_id, text in answers.items()}


def _lemmas(document: Any) -> str:
    return " ".join(token.lemma_ if token.pos_ in _LEMMATIZED else token.text for token in document)


@lru_cache(maxsize=1)
def _model() -> Any:
    try:
        import spacy

        return spacy.load(MODEL)
    except (ImportError, OSError) as error:
        raise UserError(f"Lemmas need spaCy's {MODEL}, which is not installed; get it with `{HOW_TO_GET}`.") from error

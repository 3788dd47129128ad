"""Captions that a model generated, and the special tokens inside them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption that a model generated."""

    text: str
    special_tokens: tuple[str, ...] = ()
    """Special tokens that the model generated inside the caption. The text is without them."""
    score: float | None = None
    """Mean log-probability of its tokens; see :func:`evlvideo.inference.scores.mean_log_probabilities`. None if it was
    not asked for."""


def texts_of(captions: Mapping[str, Caption]) -> dict[str, str]:
    """Return clip id → text."""
    return {clip_id: caption.text for clip_id, caption in captions.items()}


def count_special_tokens(captions: Iterable[Caption]) -> Counter[str]:
    """Count the special tokens inside captions, by name."""
    return Counter(chain.from_iterable(caption.special_tokens for caption in captions))


def name_special_tokens(captions: Sequence[Caption]) -> str | None:
    """Say how many captions hold special tokens, which ones, and what to do about it; `None` if none does."""
    holding = [caption for caption in captions if caption.special_tokens]
    if not holding:
        return None
    found = ", ".join(f"{token} ×{count:,}" for token, count in count_special_tokens(holding).most_common())
    return (
        f"special-tokens: {len(holding):,} of {len(captions):,} captions hold special tokens: {found}. They are left "
        "out of the texts. The language model has not learned how captions end, or falls back on its chat template: "
        "train longer, or change the texts (text.template, text.bos, text.end_of_text)."
    )

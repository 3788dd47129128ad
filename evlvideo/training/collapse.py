"""Signs that self-critical training has gone wrong: what captions look like, and when to say so.

A reward that is easy to please is pleased by texts that nobody wants: a word over and over, no ending, one caption for
every clip. Pure functions of captions and of the means that a run logs.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

BAD_ENDINGS = frozenset({
    *("a", "an", "the", "his", "her", "its", "their", "some"),
    *("of", "in", "on", "at", "to", "for", "from", "with", "by", "as", "into", "onto", "near", "over", "under"),
    *("behind", "beside", "between", "through", "and", "or", "is", "are", "was", "were", "am", "be", "being"),
})  # fmt: skip
"""Words that no caption ends with: articles, prepositions, conjunctions and verbs that need another word. A reward that
does not count the end of a sentence teaches captions that end with one (bad endings: Guo et al., EMNLP 2018)."""

_FEWEST_TOKENS = 3.0
_MOST_REPETITION = 0.3
_MOST_ALIKE = 0.95
_MOST_UNENDED = 0.95
_NO_REWARD = 1e-6


def bad_ending_share(captions: Sequence[str]) -> float:
    """The share of captions whose last word is one of :data:`BAD_ENDINGS`, or that have no word."""
    bad = [not (words := caption.lower().rstrip(" .!?").split()) or words[-1] in BAD_ENDINGS for caption in captions]
    return sum(bad) / len(bad)


def repetition_share(captions: Sequence[str]) -> float:
    """The share of pairs of neighbouring words that were in the same caption before, over all captions."""
    pairs = repeated = 0
    for caption in captions:
        words = caption.lower().split()
        found = list(pairwise(words))
        pairs += len(found)
        repeated += len(found) - len(set(found))
    return repeated / pairs if pairs else 0.0


def signs_of_collapse(means: Mapping[str, float]) -> list[str]:
    """What is wrong with the samples of the last steps, in words; empty where nothing is.

    Args:
        means: what a training line logs: `sample_tokens`, `repetition`, `zero_advantage_share`, `unended_share`,
            `reward`. What is not among them is not looked at.
    """
    signs = []
    tokens = means.get("sample_tokens")
    if tokens is not None and tokens < _FEWEST_TOKENS:
        signs.append(f"captions have {tokens:.1f} tokens, the ending among them")
    if means.get("repetition", 0.0) > _MOST_REPETITION:
        signs.append(f"{means['repetition']:.0%} of word pairs repeat one of the same caption")
    if means.get("unended_share", 0.0) > _MOST_UNENDED:
        signs.append(f"{means['unended_share']:.0%} of captions do not end within scst.max_new_tokens")
    if means.get("zero_advantage_share", 0.0) > _MOST_ALIKE:
        alike = "the samples of a clip are all alike"
        cold = "none earns a reward, and the model that the run started from may not have learned to caption"
        reason = cold if abs(means.get("reward", 0.0)) < _NO_REWARD else alike
        signs.append(f"{means['zero_advantage_share']:.0%} of samples have no advantage over their baseline: {reason}")
    return signs

"""Detects that self-critical training has collapsed, from captions and from the means that a run logs.

A weak reward favours texts that nobody wants: a word over and over, no EOS token, one caption for every clip.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

BAD_ENDINGS = frozenset({
    *("a", "an", "the", "his", "her", "its", "their", "some"),
    *("of", "in", "on", "at", "to", "for", "from", "with", "by", "as", "into", "onto", "near", "over", "under"),
    *("behind", "beside", "between", "through", "and", "or", "is", "are", "was", "were", "am", "be", "being"),
})  # fmt: skip
"""Words that should not end a caption: articles, prepositions, conjunctions, auxiliary verbs. A reward that does not
count the EOS token teaches captions that end with one (bad endings: Guo et al., EMNLP 2018)."""

_FEWEST_TOKENS = 3.0
_MOST_REPETITION = 0.3
_MOST_ALIKE = 0.95
_MOST_UNENDED = 0.95
_NO_REWARD = 1e-6


def bad_ending_share(captions: Sequence[str]) -> float:
    """Return the share of captions that end with one of :data:`BAD_ENDINGS` or have no words."""
    bad = [not (words := caption.lower().rstrip(" .!?").split()) or words[-1] in BAD_ENDINGS for caption in captions]
    return sum(bad) / len(bad)


def repetition_share(captions: Sequence[str]) -> float:
    """Return the share of word pairs that occurred earlier in the same caption, over all captions."""
    pairs = repeated = 0
    for caption in captions:
        words = caption.lower().split()
        found = list(pairwise(words))
        pairs += len(found)
        repeated += len(found) - len(set(found))
    return repeated / pairs if pairs else 0.0


def signs_of_collapse(means: Mapping[str, float]) -> list[str]:
    """Describe what is wrong with the latest samples; empty if nothing is.

    Args:
        means: values of a training line of the log: `sample_tokens`, `repetition`, `zero_advantage_share`,
            `unended_share`, `reward`. Missing ones are skipped.
    """
    signs = []
    tokens = means.get("sample_tokens")
    if tokens is not None and tokens < _FEWEST_TOKENS:
        signs.append(f"captions have {tokens:.1f} tokens, EOS included")
    if means.get("repetition", 0.0) > _MOST_REPETITION:
        signs.append(f"{means['repetition']:.0%} of word pairs repeat one of the same caption")
    if means.get("unended_share", 0.0) > _MOST_UNENDED:
        signs.append(f"{means['unended_share']:.0%} of captions do not end within scst.max_new_tokens")
    if means.get("zero_advantage_share", 0.0) > _MOST_ALIKE:
        alike = "the samples of a clip are all the same"
        cold = "none earns a reward, and the model that the run started from may not have learned to caption"
        reason = cold if abs(means.get("reward", 0.0)) < _NO_REWARD else alike
        signs.append(f"{means['zero_advantage_share']:.0%} of samples have no advantage over their baseline: {reason}")
    return signs

"""Count what BLEU of many captions is computed from, with the n-gram tables of a CIDEr scorer."""

from collections.abc import Sequence

import numpy as np

from evlvideo.metrics.cider import CiderD
from evlvideo.metrics.ngrams.reference_counts import match, select
from evlvideo.metrics.ngrams.tables import MAX_N

_AT_A_TIME = 4096


def bleu_counts(scorer: CiderD, hypotheses: Sequence[str], clip_ids: Sequence[str]) -> np.ndarray:
    """Count what BLEU-1…4 of captions is computed from. A corpus has the sums of its captions' counts.

    Source: Papineni et al., ACL 2002.

    Args:
        scorer: holds the counted references; made without `end_of_text`.
        hypotheses: tokenized captions.
        clip_ids: the clip of each.

    Returns:
        integers `(captions, 10)`: for n = 1…4, n-grams that match, clipped to the highest count in a reference; for
        n = 1…4, n-grams of the caption; its length in words; the closest length of a reference, the shorter in a tie.

    Raises:
        UserError: a clip has no references.
    """
    clips = scorer.indices(clip_ids)
    words = [text.split() for text in hypotheses]
    parts = [
        _count(scorer, words[start : start + _AT_A_TIME], clips[start : start + _AT_A_TIME])
        for start in range(0, len(words), _AT_A_TIME)
    ]
    return np.concatenate([np.zeros((0, 2 * MAX_N + 2), np.int64), *parts])


def _count(scorer: CiderD, words: list[list[str]], clips: np.ndarray) -> np.ndarray:
    distinct, clip_of = np.unique(clips, return_inverse=True)
    selected = select(scorer.references, scorer.tables.size, distinct)
    found = scorer.tables.count(words)
    same, pairs, entries = match(selected, clip_of[found.text], found.ids)
    firsts = np.cumsum(pairs) - pairs
    most = np.maximum.reduceat(scorer.references.counts[entries], firsts) if len(same) else np.zeros(0, np.int64)
    cells = found.text[same] * MAX_N + found.order[same]
    correct = np.bincount(cells, np.minimum(found.counts[same], most), minlength=len(words) * MAX_N).astype(np.int64)
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    guessed = np.maximum(lengths[:, None] - np.arange(MAX_N), 0)
    closest = _closest(lengths, selected.lengths[clip_of].astype(np.int64), selected.there[clip_of])
    return np.column_stack([correct.reshape(-1, MAX_N), guessed, lengths, closest])


def _closest(lengths: np.ndarray, references: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Return the closest of each row's reference lengths, `(captions, R)`, the shorter in a tie."""
    apart = np.abs(references - lengths[:, None])
    # One key sorts by both; no length reaches the factor.
    order = np.where(there, apart * (int(references.max()) + 1) + references, np.iinfo(np.int64).max)
    nearest: np.ndarray = np.take_along_axis(references, order.argmin(axis=1)[:, None], axis=1)[:, 0]
    return nearest

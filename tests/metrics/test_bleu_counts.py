"""Counts of many captions, against pycocoevalcap's of one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evlvideo.errors import UserError
from evlvideo.metrics.bleu_counts import bleu_counts
from evlvideo.metrics.cider import CiderD

words = st.lists(st.sampled_from(["a", "b", "c", "d", "new"]), max_size=8).map(" ".join)
corpora = st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=4)), min_size=1, max_size=5)


@given(corpora)
def test_counts_are_those_of_pycocoevalcap(corpus: list[tuple[str, list[str]]]) -> None:
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu_scorer")
    scorer = CiderD({str(place): group for place, (_, group) in enumerate(corpus)})
    captions = [caption for caption, _ in corpus]
    found = bleu_counts(scorer, captions, scorer.clip_ids)
    assert found.shape == (len(corpus), 10)
    for row, (caption, group) in zip(found.tolist(), corpus, strict=True):
        counts = bleu.cook_test(caption, bleu.cook_refs(group))
        _, closest = min((abs(length - counts["testlen"]), length) for length in counts["reflen"])
        assert row == [*counts["correct"], *counts["guess"], counts["testlen"], closest]


def test_many_captions_are_counted_as_few(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = CiderD({"one": ["a man runs", "a man"], "two": ["the dog the dog"]})
    captions, clips = ["a man", "the the the", "", "a dog runs"], ["one", "two", "two", "one"]
    together = bleu_counts(scorer, captions, clips)
    monkeypatch.setattr("evlvideo.metrics.bleu_counts._AT_A_TIME", 3)
    assert np.array_equal(bleu_counts(scorer, captions, clips), together)


def test_no_captions() -> None:
    assert bleu_counts(CiderD({"one": ["a man"]}), [], []).shape == (0, 10)


def test_unknown_clip() -> None:
    with pytest.raises(UserError, match="no references for the clip 'three'"):
        bleu_counts(CiderD({"one": ["a man"]}), ["a man"], ["three"])

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evlvideo.metrics.sentence_scores import BleuReferences, RougeReferences

written = st.lists(st.sampled_from("abcde"), min_size=1, max_size=9)
pairs = st.lists(st.tuples(written, st.lists(written, min_size=1, max_size=4)), min_size=2, max_size=4)


@given(pairs)
def test_bleu_is_pycocoevalcaps_of_the_clip(corpus: list[tuple[list[str], list[list[str]]]]) -> None:
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu")
    hypotheses = {index: [" ".join(hypothesis)] for index, (hypothesis, _) in enumerate(corpus)}
    references = {index: [" ".join(text) for text in group] for index, (_, group) in enumerate(corpus)}
    _, expected = bleu.Bleu(4).compute_score(references, hypotheses, verbose=0)
    found = [BleuReferences.of(group).score(hypothesis) for hypothesis, group in corpus]
    assert found == pytest.approx(expected[3], rel=1e-9, abs=1e-12)


@given(pairs)
def test_rouge_is_pycocoevalcaps_of_the_clip(corpus: list[tuple[list[str], list[list[str]]]]) -> None:
    rouge = pytest.importorskip("pycocoevalcap.rouge.rouge")
    hypotheses = {index: [" ".join(hypothesis)] for index, (hypothesis, _) in enumerate(corpus)}
    references = {index: [" ".join(text) for text in group] for index, (_, group) in enumerate(corpus)}
    _, expected = rouge.Rouge().compute_score(references, hypotheses)
    found = [RougeReferences.of(group).score(hypothesis) for hypothesis, group in corpus]
    assert found == pytest.approx(list(expected), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("prepare", [BleuReferences.of, RougeReferences.of])
def test_no_words_score_zero(prepare: Callable[..., Any]) -> None:
    assert prepare([["a"], []]).score([]) == 0


@pytest.mark.parametrize("prepare", [BleuReferences.of, RougeReferences.of])
def test_references_without_words_match_nothing(prepare: Callable[..., Any]) -> None:
    assert prepare([[]]).score(["a"]) == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("prepare", [BleuReferences.of, RougeReferences.of])
def test_a_reference_word_for_word_scores_one(prepare: Callable[..., Any]) -> None:
    assert prepare([["b"], list("abcde")]).score(list("abcde")) == pytest.approx(1)

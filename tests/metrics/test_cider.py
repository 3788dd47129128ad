import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evlvideo.errors import UserError
from evlvideo.metrics.cider import CiderD
from evlvideo.metrics.ngrams.tables import END_OF_TEXT

CASES = Path(os.environ.get("EVLVIDEO_PARITY_CASES") or Path(__file__).parents[1] / "fixtures" / "cider")
FILES = sorted(CASES.rglob("cases.json"))


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.parent.name)
def cases(request: pytest.FixtureRequest) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(request.param.read_text(encoding="utf-8"))
    return loaded


def scores_of(scorer: CiderD, hypotheses: dict[str, str], **options: Any) -> list[float]:
    scores: list[float] = scorer.score_all(list(hypotheses.values()), list(hypotheses), **options).tolist()
    return scores


def test_there_are_cases() -> None:
    assert FILES, f"{CASES} holds no cases.json"


@pytest.mark.parametrize("expected", ["cider_d", "cider"])
@pytest.mark.parametrize("frequencies", ["split", "batch"])
def test_equals_the_reference_with_frequencies_of_the_evaluated_references(
    cases: dict[str, Any], expected: str, frequencies: str
) -> None:
    scores = scores_of(CiderD(cases["references"]), cases["hypotheses"], frequencies=frequencies)
    assert scores == pytest.approx(cases[expected], rel=1e-9, abs=1e-9)


def test_equals_the_reference_with_frequencies_of_a_training_split(cases: dict[str, Any]) -> None:
    scorer = CiderD(cases["references"], cases["train_references"].values())
    assert scores_of(scorer, cases["hypotheses"]) == pytest.approx(cases["cider_d_train_df"], rel=1e-9, abs=1e-9)


words = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=8).map(" ".join)
corpora = st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=3)), min_size=1, max_size=4)


@given(corpora)
def test_equals_pycocoevalcap(corpus: list[tuple[str, list[str]]]) -> None:
    cider = pytest.importorskip("pycocoevalcap.cider.cider")
    references = {str(index): group for index, (_, group) in enumerate(corpus)}
    hypotheses = {str(index): hypothesis for index, (hypothesis, _) in enumerate(corpus)}
    if not any(text for group in references.values() for text in group):
        return  # pycocoevalcap cannot score without any word
    _, expected = cider.Cider().compute_score(references, {name: [text] for name, text in hypotheses.items()})
    assert scores_of(CiderD(references), hypotheses) == pytest.approx(list(expected), rel=1e-9, abs=1e-9)


@given(corpora)
def test_scores_of_a_batch_are_those_of_its_parts_to_the_last_bit(corpus: list[tuple[str, list[str]]]) -> None:
    references = {str(index): group for index, (_, group) in enumerate(corpus)}
    hypotheses = {str(index): f"{hypothesis} new new other" for index, (hypothesis, _) in enumerate(corpus)}
    scorer = CiderD(references, [*references.values(), ["a b c"]])
    alone = [scorer.score(hypothesis, clip_id) for clip_id, hypothesis in hypotheses.items()]
    assert scores_of(scorer, hypotheses) == alone


@pytest.mark.parametrize("frequencies", ["split", "batch"])
def test_many_hypotheses_have_the_scores_of_few_to_the_last_bit(
    cases: dict[str, Any], frequencies: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = CiderD(cases["references"])
    together = scores_of(scorer, cases["hypotheses"], frequencies=frequencies)
    monkeypatch.setattr("evlvideo.metrics.cider._AT_A_TIME", 3)
    monkeypatch.setattr("evlvideo.metrics.ngrams.tables._GROUPS", 2)
    assert len(together) > 3
    assert scores_of(scorer, cases["hypotheses"], frequencies=frequencies) == together
    assert scores_of(CiderD(cases["references"]), cases["hypotheses"], frequencies=frequencies) == together


def test_score_does_not_depend_on_the_order(cases: dict[str, Any]) -> None:
    scorer = CiderD(cases["references"], cases["train_references"].values())
    backwards = dict(reversed(cases["hypotheses"].items()))
    assert scores_of(scorer, cases["hypotheses"]) == scores_of(scorer, backwards)[::-1]


def test_several_hypotheses_of_a_clip() -> None:
    scorer = CiderD(REFERENCES)
    texts, clips = ["a man runs", "a dog", "a man", "the dog sleeps"], ["one", "two", "one", "two"]
    assert scorer.score_all(texts, clips).tolist() == [
        scorer.score(text, clip) for text, clip in zip(texts, clips, strict=True)
    ]


def test_frequencies_of_the_batch_are_those_of_its_clips_alone() -> None:
    references = {**REFERENCES, "three": ["a cat", "a man runs"]}
    texts, clips = ["a man runs", "a dog", "a man"], ["one", "two", "one"]
    found = CiderD(references).score_all(texts, clips, frequencies="batch")
    assert found == pytest.approx(CiderD(REFERENCES).score_all(texts, clips), rel=1e-12)


def test_a_batch_of_one_clip_scores_zero_with_its_own_frequencies() -> None:
    assert CiderD(REFERENCES).score_all(["a man runs"], ["one"], frequencies="batch").tolist() == [0]


def test_unknown_frequencies() -> None:
    with pytest.raises(UserError, match="'corpus'; allowed: split, batch"):
        CiderD(REFERENCES).score_all(["a man"], ["one"], frequencies="corpus")


def test_no_hypotheses() -> None:
    assert CiderD(REFERENCES).score_all([], []).tolist() == []


def test_repeated_words_that_no_reference_has_weigh_as_often_as_they_stand() -> None:
    scorer = CiderD({"clip": ["zebra"]}, [["a dog"], ["a cat"]])
    # 1 / sqrt(1 + 2²) of the one matching order of four, for three words where one was expected.
    expected = 10 / 4 / math.sqrt(5) * math.exp(-(2**2) / 72)
    assert math.isclose(scorer.score("zebra new new", "clip"), expected)


REFERENCES = {"one": ["a man runs", "a man is running"], "two": ["a dog sleeps", "the dog sleeps"]}


def test_end_of_text_is_one_more_word() -> None:
    marked = {name: [f"{text} END" for text in group] for name, group in REFERENCES.items()}
    with_end = CiderD(REFERENCES, end_of_text=True)
    assert with_end.score("a man runs", "one", ended=True) == CiderD(marked).score("a man runs END", "one")
    assert with_end.score("a man runs", "one", ended=False) == CiderD(marked).score("a man runs", "one")
    assert with_end.score("a man runs", "one", ended=True) > with_end.score("a man runs", "one", ended=False)


def test_no_word_of_a_caption_is_the_end_of_text() -> None:
    assert len(END_OF_TEXT.split()) > 1


def test_ended_counts_only_with_end_of_text() -> None:
    scorer = CiderD(REFERENCES)
    assert scorer.score("a man runs", "one", ended=True) == scorer.score("a man runs", "one", ended=False)


def test_n_grams_outside_the_documents_weigh_most() -> None:
    scorer = CiderD({"clip": ["zebra"]}, [["a dog"], ["a cat"]])
    # One matching word of one order out of four, times ten.
    assert math.isclose(scorer.score("zebra", "clip"), 2.5)


def test_empty_hypothesis_scores_zero() -> None:
    assert CiderD(REFERENCES).score("", "one") == 0


def test_unknown_clip() -> None:
    with pytest.raises(UserError, match="no references for the clip 'three'"):
        CiderD(REFERENCES).score("a man", "three")


def test_clip_without_references() -> None:
    with pytest.raises(UserError, match="1 have none, such as 'empty'"):
        CiderD({"empty": []})


def test_no_documents() -> None:
    with pytest.raises(UserError, match="at least one document"):
        CiderD(REFERENCES, [])

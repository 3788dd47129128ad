import itertools
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evlvideo.metrics import bootstrap as resampling
from evlvideo.metrics.bootstrap import (
    Statistics,
    averaged,
    bleu_statistics,
    bootstrap,
    holm,
    interval,
    mean_interval,
    mean_statistics,
    randomization_p_values,
)
from evlvideo.metrics.sentence_scores import BleuReferences
from evlvideo.metrics.tokenizers.tokenize import tokenize_lines

MSRVTT = Path(__file__).parents[3] / "shared" / "data" / "msrvtt"

written = st.lists(st.sampled_from("abcde"), max_size=9)
corpora = st.lists(st.tuples(written, st.lists(written.filter(bool), min_size=1, max_size=4)), min_size=1, max_size=5)
Corpus = list[tuple[list[str], list[list[str]]]]


def bleu_of(corpus: Corpus) -> Statistics:
    references = [BleuReferences.of(group) for _, group in corpus]
    counts = [group.count(caption) for group, (caption, _) in zip(references, corpus, strict=True)]
    return bleu_statistics(np.array([(*of.correct, *of.guessed, of.words, of.closest) for of in counts]))


def pycocoevalcap_bleu(corpus: Corpus) -> float:
    bleu = pytest.importorskip("pycocoevalcap.bleu.bleu")
    hypotheses = {index: [" ".join(caption)] for index, (caption, _) in enumerate(corpus)}
    references = {index: [" ".join(text) for text in group] for index, (_, group) in enumerate(corpus)}
    return float(bleu.Bleu(4).compute_score(references, hypotheses, verbose=0)[0][3])


def small_corpus(captions: list[str]) -> Statistics:
    """Four clips whose captions are better or worse."""
    references = ["a man is riding a horse", "a dog runs in the park", "two women sing a song", "a car is on the road"]
    return bleu_of([(caption.split(), [text.split()]) for caption, text in zip(captions, references, strict=True)])


GOOD = small_corpus(["a man is riding a horse", "a dog runs in a park", "two women sing", "a car is on the road"])
POOR = small_corpus(["a man is riding a bike", "the dog runs", "two women sing a tune", "a car is on a road"])


@given(corpora)
@settings(max_examples=60, deadline=None)
def test_bleu_from_counts_is_pycocoevalcaps_of_the_corpus(corpus: Corpus) -> None:
    assert bleu_of(corpus).value == pytest.approx(pycocoevalcap_bleu(corpus), rel=1e-9, abs=1e-12)


@pytest.mark.skipif(not MSRVTT.is_dir(), reason="needs the official MSR-VTT annotation")
def test_bleu_of_the_whole_msrvtt_test_split_is_pycocoevalcaps_and_resampled_in_seconds() -> None:
    with zipfile.ZipFile(MSRVTT / "test_videodatainfo.json.zip") as archive:
        sentences = json.loads(archive.read("test_videodatainfo.json"))["sentences"]
    groups: dict[str, list[str]] = {}
    for sentence in sorted(sentences, key=lambda entry: entry["sen_id"]):
        # Some references are enough, and quicker.
        if len(groups.setdefault(sentence["video_id"], [])) < 5:
            groups[sentence["video_id"]].append(sentence["caption"])
    lines = iter(tokenize_lines([text for group in groups.values() for text in group], "python"))
    clips = [[next(lines).split() for _ in group] for group in groups.values()]
    corpus = [(captions[0], captions[1:]) for captions in clips]
    statistics = bleu_of(corpus)
    assert len(corpus) == 2990
    assert statistics.value == pytest.approx(pycocoevalcap_bleu(corpus), abs=1e-9)
    started = time.perf_counter()
    low, high = interval(bootstrap([statistics], 10_000)[0])
    assert time.perf_counter() - started < 20
    assert low < statistics.value < high < low + 0.03


def test_the_bootstrap_is_that_of_all_draws_of_four_clips() -> None:
    draws = [np.bincount(chosen, minlength=4) for chosen in itertools.product(range(4), repeat=4)]
    exact = GOOD.score(np.array(draws) @ GOOD.per_clip)
    found = bootstrap([GOOD], 40_000, seed=3)[0]
    assert found.mean() == pytest.approx(exact.mean(), abs=4 * exact.std() / 200)
    assert found.std() == pytest.approx(exact.std(), rel=0.02)
    for value in np.quantile(exact, [0.1, 0.5, 0.9]):
        assert np.mean(found <= value + 1e-12) == pytest.approx(np.mean(exact <= value + 1e-12), abs=0.01)


def test_draws_are_the_same_for_all_systems() -> None:
    scores = mean_statistics([0.1, 0.5, 0.9, 0.3])
    shifted = mean_statistics([1.1, 1.5, 1.9, 1.3])
    together = bootstrap([scores, shifted, GOOD], 200)
    np.testing.assert_allclose(together[1] - together[0], 1)
    np.testing.assert_allclose(bootstrap([scores], 200)[0], together[0], rtol=1e-12)


def test_a_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    first, again, other = (bootstrap([GOOD], 300, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("pair", [(GOOD, POOR), (mean_statistics([1, 2, 3, 4]), mean_statistics([1, 1, 1, 5]))])
def test_the_p_value_is_that_of_all_exchanges(pair: tuple[Statistics, Statistics]) -> None:
    first, second = (system.per_clip for system in pair)
    as_large = []
    for chosen in itertools.product([False, True], repeat=4):
        of_first = np.where(np.array(chosen)[:, None], second, first).sum(axis=0)
        of_second = np.where(np.array(chosen)[:, None], first, second).sum(axis=0)
        difference = abs(pair[0].score(of_first) - pair[1].score(of_second))
        as_large.append(difference >= abs(pair[0].value - pair[1].value) - 1e-12)
    assert randomization_p_values([pair], 40_000) == [pytest.approx(np.mean(as_large), abs=0.01)]


def test_a_test_has_the_same_answer_in_both_directions() -> None:
    assert randomization_p_values([(GOOD, POOR)]) == randomization_p_values([(POOR, GOOD)])


def test_identical_systems_do_not_differ() -> None:
    assert randomization_p_values([(GOOD, GOOD), (POOR, POOR)]) == [1.0, 1.0]
    samples = bootstrap([GOOD, GOOD], 500)
    assert interval(samples[1] - samples[0]) == (0.0, 0.0)


def test_one_clip_has_an_interval_of_its_score_and_shows_no_difference() -> None:
    one, other = mean_statistics([0.2]), mean_statistics([0.9])
    assert interval(bootstrap([one], 50)[0]) == (0.2, 0.2)
    assert randomization_p_values([(one, other)], 50) == [1.0]


def test_an_average_of_systems_has_the_mean_score_on_every_draw() -> None:
    mean = averaged([GOOD, POOR])
    assert mean.value == pytest.approx((GOOD.value + POOR.value) / 2)
    good, poor, both = bootstrap([GOOD, POOR, mean], 50)
    assert both == pytest.approx((good + poor) / 2)


def test_systems_in_another_order_do_not_differ_on_average() -> None:
    assert randomization_p_values([(averaged([GOOD, POOR]), averaged([POOR, GOOD]))], 200) == [1.0]


def test_an_average_is_tested_by_exchanging_all_its_captions_of_a_clip() -> None:
    first, second = averaged([GOOD, GOOD]), averaged([POOR, POOR])
    assert randomization_p_values([(first, second)], 300) == randomization_p_values([(GOOD, POOR)], 300)


def test_means_over_more_and_fewer_seeds_are_tested_by_their_scores_on_each_clip() -> None:
    generator = np.random.default_rng(4)
    seeds = generator.random((3, 30))
    alone = mean_statistics((generator.random(30) + 0.1).tolist())
    several = averaged([mean_statistics(scores.tolist()) for scores in seeds])
    expected = randomization_p_values([(mean_statistics(seeds.mean(axis=0).tolist()), alone)], 500)
    assert randomization_p_values([(several, alone)], 500) == expected
    assert randomization_p_values([(alone, several)], 500) == expected


def test_more_seeds_of_bleu_than_the_other_system_has_are_tested_by_their_mean() -> None:
    several = [GOOD, small_corpus(["a man rides", "a dog in a park", "two women sing a song", "a car on the road"])]
    as_large = []
    observed = abs(np.mean([system.value for system in several]) - POOR.value)
    for chosen in itertools.product([False, True], repeat=4):
        exchanged = np.array(chosen)[:, None]
        differences = [
            system.score(np.where(exchanged, POOR.per_clip, system.per_clip).sum(axis=0))
            - system.score(np.where(exchanged, system.per_clip, POOR.per_clip).sum(axis=0))
            for system in several
        ]
        as_large.append(abs(np.mean(differences)) >= observed - 1e-12)
    found = randomization_p_values([(averaged(several), POOR), (POOR, averaged(several))], 40_000)
    assert found == [pytest.approx(np.mean(as_large), abs=0.01)] * 2


def test_pairs_with_other_numbers_of_seeds_do_not_change_each_other() -> None:
    pairs = [(averaged([GOOD, POOR, GOOD]), averaged([POOR, GOOD])), (GOOD, POOR), (averaged([GOOD, POOR]), POOR)]
    together = randomization_p_values(pairs, 200)
    assert together == [randomization_p_values([pair], 200)[0] for pair in pairs]


def test_no_pairs_have_no_p_values() -> None:
    assert randomization_p_values([]) == []


def test_p_values_of_several_tests_are_adjusted_step_by_step() -> None:
    # By hand: 0.01 × 4; 0.02 × 3; 0.03 × 2, which is no more than the one before; 0.9 × 1.
    assert holm([0.02, 0.9, 0.01, 0.03]) == pytest.approx([0.06, 0.9, 0.04, 0.06])


@given(st.lists(st.floats(0, 1), max_size=8))
def test_adjusted_p_values_lie_between_the_plain_ones_and_bonferroni_s(p_values: list[float]) -> None:
    for plain, adjusted in zip(p_values, holm(p_values), strict=True):
        assert plain <= adjusted <= min(1.0, len(p_values) * plain)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_adjusted_p_values_keep_their_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    ordered = [after for _, after in sorted(zip(p_values, adjusted, strict=True))]
    assert ordered == sorted(ordered)


def test_captions_without_words_score_nothing_and_break_nothing() -> None:
    silent = bleu_of([([], [["a", "man"]]), ([], [["a"]])])
    with np.errstate(all="raise", under="ignore"):
        assert interval(bootstrap([silent], 100)[0]) == (0.0, 0.0)


def test_intervals_hold_the_true_mean_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for trial in range(300):
        low, high = interval(bootstrap([mean_statistics(generator.gamma(2, 1, 120).tolist())], 400, seed=trial)[0])
        held += low <= 2 <= high
    # 95 % up to the noise of 300 trials; percentiles of a skewed sample are a little short.
    assert 0.91 <= held / 300 <= 0.985


def test_without_a_difference_five_percent_of_tests_find_one() -> None:
    generator = np.random.default_rng(1)
    hard = generator.normal(size=(400, 80))
    p_values = np.array(
        [
            randomization_p_values(
                [
                    (
                        mean_statistics((clips + generator.normal(size=80)).tolist()),
                        mean_statistics((clips + generator.normal(size=80)).tolist()),
                    )
                ],
                300,
                seed=trial,
            )[0]
            for trial, clips in enumerate(hard)
        ]
    )
    assert 0.025 <= np.mean(p_values < 0.05) <= 0.08
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.05)


def test_draws_of_many_clips_are_those_of_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    systems = [mean_statistics(np.random.default_rng(seed).random(40).tolist()) for seed in (1, 2)]
    together = bootstrap(systems, resamples=30)
    monkeypatch.setattr(resampling, "_WEIGHTS", 7 * 40)
    assert np.allclose(bootstrap(systems, resamples=30), together, rtol=1e-14)


def test_the_interval_of_a_mean_is_that_of_resampled_scores() -> None:
    scores = np.random.default_rng(3).choice([0.0, 0.3, 0.6, 1.0], size=400).tolist()
    (drawn,) = bootstrap([mean_statistics(scores)])
    assert mean_interval(scores) == pytest.approx(interval(drawn), abs=4e-3)


def test_the_interval_of_many_scores_takes_no_time() -> None:
    scores = np.random.default_rng(3).choice([0.0, 0.3, 0.6, 0.9, 1.0], size=200_000)
    start = time.perf_counter()
    low, high = mean_interval(scores)
    assert time.perf_counter() - start < 1
    assert low < scores.mean() < high < low + 0.004


def test_the_mean_of_one_score_is_certain() -> None:
    assert mean_interval([0.3]) == (0.3, 0.3)


class TestEqualClips:
    """Of many clips with few values, equal ones are drawn together."""

    @pytest.fixture
    def systems(self) -> list[Statistics]:
        generator = np.random.default_rng(0)
        scores = generator.choice([0.0, 0.3, 0.6, 0.9, 1.0], (3, 400), p=[0.4, 0.1, 0.1, 0.1, 0.3])
        scores[1, :300] = scores[0, :300]
        return [mean_statistics(of_system) for of_system in scores]

    def test_intervals_are_the_same_but_for_chance(
        self, systems: list[Statistics], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        apart = bootstrap(systems)
        monkeypatch.setattr(resampling, "_MANY", 0)
        monkeypatch.setattr(resampling, "_ALIKE", 1)
        together = bootstrap(systems)
        assert together.shape == apart.shape
        for first, second in ((apart[0], together[0]), (apart[1] - apart[0], together[1] - together[0])):
            assert interval(second) == pytest.approx(interval(first), abs=0.004)
            assert second.std() == pytest.approx(first.std(), rel=0.05)

    def test_tests_are_the_same_but_for_chance(
        self, systems: list[Statistics], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pairs = [(systems[0], systems[1]), (systems[0], systems[2]), (systems[0], averaged(systems[1:]))]
        apart = randomization_p_values(pairs)
        monkeypatch.setattr(resampling, "_MANY", 0)
        monkeypatch.setattr(resampling, "_ALIKE", 1)
        assert randomization_p_values(pairs) == pytest.approx(apart, abs=0.02)

    def test_different_clips_are_drawn_one_by_one_however_many(self, monkeypatch: pytest.MonkeyPatch) -> None:
        system = mean_statistics(np.random.default_rng(0).random(50).tolist())
        apart = bootstrap([system], 10)
        monkeypatch.setattr(resampling, "_MANY", 0)
        assert np.array_equal(bootstrap([system], 10), apart)

    @pytest.mark.slow
    def test_all_of_vqa_takes_seconds(self) -> None:
        scores = np.random.default_rng(0).choice([0.0, 0.3, 0.6, 0.9, 1.0], (4, 214_354))
        systems = [mean_statistics(of_system) for of_system in scores]
        started = time.perf_counter()
        bootstrap(systems)
        randomization_p_values([(systems[0], other) for other in systems[1:]])
        assert time.perf_counter() - started < 20

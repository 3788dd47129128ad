import numpy as np
import pytest

from evlvideo.metrics.bootstrap import bootstrap, interval, mean_statistics
from evlvideo.metrics.retrieval.ranks import Places
from evlvideo.metrics.retrieval.scores import direction_scores, mean_recall


def places(ranks: np.ndarray) -> Places:
    return Places(ranks - 1, np.zeros(len(ranks), int), np.ones(len(ranks), int))


def test_recalls_and_ranks_are_those_of_the_definition() -> None:
    scores = direction_scores(places(np.array([1, 1, 2, 7, 11, 40])), 50)
    assert {k: recall.value for k, recall in scores.recalls.items()} == pytest.approx({1: 2 / 6, 5: 3 / 6, 10: 4 / 6})
    assert (scores.median_rank.value, scores.mean_rank.value) == pytest.approx((4.5, 62 / 6))
    assert (scores.queries, scores.candidates) == (6, 50)


def test_intervals_are_those_of_queries_drawn_one_by_one() -> None:
    ranks = np.random.default_rng(0).geometric(0.1, size=400)
    scores = direction_scores(places(ranks), 400)
    expected = interval(bootstrap([mean_statistics((ranks <= 5).astype(float))])[0])
    assert (scores.recalls[5].low, scores.recalls[5].high) == pytest.approx(expected, abs=0.01)
    medians = np.median(np.random.default_rng(1).choice(ranks, size=(4000, 400)), axis=1)
    assert (scores.median_rank.low, scores.median_rank.high) == pytest.approx(interval(medians), abs=0.51)
    assert scores.mean_rank.low < ranks.mean() < scores.mean_rank.high


def test_a_seed_gives_the_same_intervals() -> None:
    ranks = np.random.default_rng(0).geometric(0.1, size=50)
    assert direction_scores(places(ranks), 50) == direction_scores(places(ranks), 50)
    assert direction_scores(places(ranks), 50) != direction_scores(places(ranks), 50, seed=1)


def test_expected_ties_count_in_part() -> None:
    tied = Places(np.array([0]), np.array([1]), np.array([1]))
    assert direction_scores(tied, 2, ties="expected").recalls[1].value == pytest.approx(0.5)
    assert direction_scores(tied, 2).recalls[1].value == 0


def test_the_mean_recall_is_over_both_directions() -> None:
    first, second = (direction_scores(places(np.array(ranks)), 20) for ranks in ([1, 1], [2, 11]))
    assert mean_recall([first, second]) == pytest.approx((3 + 0 + 0.5 + 0.5) / 6)

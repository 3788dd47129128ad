"""Ranks against a sort of every query's scores, as the published evaluations of BLIP and ALBEF do it."""

import itertools
import time

import numpy as np
import pytest

from evlvideo.errors import UserError
from evlvideo.metrics.retrieval.ranks import SAME_SIMILARITY, Places, Ties, pairs_of, place
from evlvideo.metrics.retrieval.similarities import best_candidates, matrix_blocks, similarity_blocks, unit

OWNER = np.array([2, 0, 1, 0, 2, 2, 3])


def features(count: int, channels: int = 8, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, channels)))


def sorted_ranks(scores: np.ndarray, right: list[set[int]]) -> list[int]:
    """Rank of the best right candidate, from 1."""
    return [
        next(rank for rank, found in enumerate(np.argsort(-row), start=1) if int(found) in wanted)
        for row, wanted in zip(scores, right, strict=True)
    ]


def test_several_texts_of_an_image_give_the_rank_of_the_best() -> None:
    images, texts = features(4), features(7, seed=1)
    texts_of = [set(np.flatnonzero(np.equal(OWNER, image)).tolist()) for image in range(4)]
    of_images, of_texts = pairs_of(OWNER)
    found = place(similarity_blocks(images, texts), of_images, SAME_SIMILARITY).ranks()
    assert found.tolist() == sorted_ranks(images @ texts.T, texts_of)
    found = place(similarity_blocks(texts, images), of_texts, SAME_SIMILARITY).ranks()
    assert found.tolist() == sorted_ranks(texts @ images.T, [{int(image)} for image in OWNER])


def test_rows_in_parts_are_the_rows_together() -> None:
    scores = np.random.default_rng(0).normal(size=(4, 7))
    right, _ = pairs_of(OWNER)
    whole, parts = place([scores], right), place([scores[:1], scores[1:3], scores[3:]], right)
    assert whole.ranks().tolist() == parts.ranks().tolist()


def test_ties_are_no_success() -> None:
    right, _ = pairs_of(OWNER)
    places = place(matrix_blocks(np.zeros((4, 7))), right)
    assert places.ranks().tolist() == [6, 7, 5, 7]
    assert places.hits(1).sum() == places.hits(4).sum() == 0
    assert places.hits(5).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize(("better", "tied", "right_tied"), list(itertools.product((0, 1, 3), (0, 1, 4), (1, 2))))
def test_expected_ranks_are_means_over_all_orders_of_ties(better: int, tied: int, right_tied: int) -> None:
    orders = set(itertools.permutations([True] * right_tied + [False] * tied))
    ranks = [better + order.index(True) + 1 for order in orders]
    places = Places(*(np.array([count]) for count in (better, tied, right_tied)))
    assert places.ranks("expected") == pytest.approx([np.mean(ranks)])
    for k in (1, 2, 3, 5, 10):
        assert places.hits(k, "expected") == pytest.approx([np.mean([rank <= k for rank in ranks])])


@pytest.mark.parametrize("ties", ["pessimistic", "expected"])
def test_without_ties_both_ways_agree(ties: Ties) -> None:
    right, _ = pairs_of(OWNER)
    scores = np.arange(28.0).reshape(4, 7)
    places = place(matrix_blocks(scores), right)
    assert places.ranks(ties).tolist() == [4, 5, 2, 1]
    assert places.hits(4, ties).tolist() == [1, 0, 1, 1]


def test_equal_texts_tie_whatever_the_last_digit() -> None:
    image = features(1, 301)
    texts = np.repeat(features(1, 301, seed=1), 37, axis=0)
    right, _ = pairs_of(np.concatenate([[0], np.arange(1, 37)]))
    images = np.concatenate([image, features(36, 301, seed=2)])
    assert place(similarity_blocks(images, texts), right, SAME_SIMILARITY).ranks().tolist() == [37] * 37


def test_scores_that_are_no_numbers_are_refused() -> None:
    scores = np.zeros((4, 7))
    scores[2, 5] = np.nan
    with pytest.raises(UserError, match="Scores of query 2 are NaN"):
        place(matrix_blocks(scores), pairs_of(OWNER)[0])


def test_the_best_candidates_are_those_of_a_sort() -> None:
    images, texts = features(4), features(7, seed=1)
    order = np.argsort(-(images @ texts.T), axis=1)
    assert best_candidates(images, texts, 3).tolist() == order[:, :3].tolist()
    assert best_candidates(images, texts, 99).tolist() == order.tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_no_numbers_are_refused(value: float) -> None:
    wrong = np.ones((3, 2))
    wrong[1, 0] = value
    with pytest.raises(UserError, match="1 of the texts hold NaN or infinity; the first is b"):
        unit(wrong, "texts", ["a", "b", "c"])


def test_features_without_direction_are_refused() -> None:
    with pytest.raises(UserError, match="2 of the images are zero and have no direction to compare; the first is 0"):
        unit(np.array([[0, 0], [1, 0], [0, 0]]), "images")


def test_large_and_small_features_have_length_one() -> None:
    scaled = unit(np.array([[3e30, 4e30], [3e-40, 4e-40]], np.float32))
    assert scaled == pytest.approx(np.array([[0.6, 0.8]] * 2), rel=1e-3)


def test_a_thousand_queries_are_placed_within_a_second() -> None:
    """Of this process's own time, so that a busy machine does not fail it."""
    queries, clips = features(1000, 512), features(1000, 512, seed=1)
    start = time.process_time()
    for pairs in pairs_of(np.arange(1000)):
        place(similarity_blocks(queries, clips), pairs, SAME_SIMILARITY)
    assert time.process_time() - start < 1

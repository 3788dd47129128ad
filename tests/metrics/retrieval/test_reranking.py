"""Re-ranking against the published way: a matrix of −100, with the matching scores of the best candidates in it."""

import numpy as np
import pytest

from evlvideo.errors import UserError
from evlvideo.metrics.retrieval.ranks import SAME_SIMILARITY, Places, RightPairs, pairs_of, place
from evlvideo.metrics.retrieval.reranking import rerank
from evlvideo.metrics.retrieval.similarities import best_candidates, matrix_blocks, similarity_blocks, unit

IMAGES, TEXTS, K = 30, 90, 12


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    generator = np.random.default_rng(0)
    images, texts = (unit(generator.normal(size=(count, 4))) for count in (IMAGES, TEXTS))
    return images, texts, generator


def test_recalls_are_those_of_the_published_matrix(
    drawn: tuple[np.ndarray, np.ndarray, np.random.Generator],
) -> None:
    images, texts, generator = drawn
    right, _ = pairs_of(np.arange(TEXTS) % IMAGES)
    candidates = best_candidates(images, texts, K)
    scores = generator.normal(size=candidates.shape)
    matrix = np.full((IMAGES, TEXTS), -100.0)
    np.put_along_axis(matrix, candidates, scores, axis=1)
    published = place(matrix_blocks(matrix), right)
    found = rerank(place(similarity_blocks(images, texts), right, SAME_SIMILARITY), right, candidates, scores)
    for k in (1, 5, 10):
        assert found.hits(k).tolist() == published.hits(k).tolist()
    assert 0 < found.hits(10).sum() < IMAGES


def test_a_query_whose_text_is_no_candidate_keeps_its_rank(
    drawn: tuple[np.ndarray, np.ndarray, np.random.Generator],
) -> None:
    images, texts, generator = drawn
    right, _ = pairs_of(np.arange(TEXTS) % IMAGES)
    before = place(similarity_blocks(images, texts), right, SAME_SIMILARITY)
    candidates = best_candidates(images, texts, 2)
    after = rerank(before, right, candidates, generator.normal(size=candidates.shape))
    behind = before.ranks() > 2
    assert behind.any()
    assert after.ranks()[behind].tolist() == before.ranks()[behind].tolist()


def test_the_better_of_two_right_candidates_counts() -> None:
    right = RightPairs(np.array([0, 0]), np.array([1, 3]))
    places = Places(*(np.array([count]) for count in (0, 0, 1)))
    found = rerank(places, right, np.array([[3, 0, 1, 2]]), np.array([[0.1, 0.7, 0.7, 0.9]]))
    assert (found.better.item(), found.tied.item(), found.right_tied.item()) == (1, 1, 1)


@pytest.mark.parametrize(
    ("scores", "message"),
    [(np.array([[0.1, np.nan]]), "query 0 are NaN"), (np.zeros((1, 3)), r"shape \[1, 2\] and .* \[1, 3\]")],
)
def test_wrong_matching_scores_are_refused(scores: np.ndarray, message: str) -> None:
    right = RightPairs(np.array([0]), np.array([1]))
    with pytest.raises(UserError, match=message):
        rerank(Places(*(np.array([1]) for _ in range(3))), right, np.array([[0, 1]]), scores)

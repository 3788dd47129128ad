"""Similarities of queries and candidates, some rows at a time, so that no matrix of all pairs is needed."""

from collections.abc import Iterator, Sequence

import numpy as np

from evlvideo.errors import UserError

_VALUES = 2**22
"""Upper bound of similarities in memory at a time: 16 MB."""


def unit(features: np.ndarray, what: str = "features", names: Sequence[object] | None = None) -> np.ndarray:
    """Scale features to length 1, in float32.

    Args:
        features: `(N, C)`.
        what: what messages call them.
        names: what messages call the rows. Defaults to their indices.

    Raises:
        UserError: a value is not finite, or a row is zero and has no direction.
    """
    features = np.asarray(features, np.float32)
    names = range(len(features)) if names is None else names
    wrong = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(wrong):
        raise UserError(f"{len(wrong)} of the {what} hold NaN or infinity; the first is {names[wrong[0]]}.")
    # The largest value first, so that no square overflows or vanishes.
    largest = np.abs(features).max(axis=1, keepdims=True, initial=0)
    zero = np.flatnonzero(largest[:, 0] == 0)
    if len(zero):
        raise UserError(
            f"{len(zero)} of the {what} are zero and have no direction to compare; the first is {names[zero[0]]}."
        )
    scaled = features / largest
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled


def similarity_blocks(queries: np.ndarray, candidates: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the similarities of some queries at a time to all candidates, `(rows, candidates)`, in order.

    Args:
        queries: `(Q, C)`.
        candidates: `(N, C)`.
    """
    turned = candidates.T
    rows = max(1, _VALUES // max(1, len(candidates)))
    for start in range(0, len(queries), rows):
        yield queries[start : start + rows] @ turned


def matrix_blocks(scores: np.ndarray) -> Iterator[np.ndarray]:
    """Yield some rows of a matrix of scores at a time."""
    rows = max(1, _VALUES // max(1, scores.shape[1]))
    for start in range(0, len(scores), rows):
        yield scores[start : start + rows]


def best_candidates(queries: np.ndarray, candidates: np.ndarray, k: int) -> np.ndarray:
    """Return the `k` most similar candidates of each query, the best first, or all if there are fewer.

    Args:
        queries: `(Q, C)`.
        candidates: `(N, C)`.
        k: at least 1.

    Returns:
        indices, `(Q, min(k, N))`.
    """
    k = min(k, len(candidates))
    found = []
    for block in similarity_blocks(queries, candidates):
        best = np.argpartition(-block, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(block, best, axis=1), axis=1, kind="stable")
        found.append(np.take_along_axis(best, order, axis=1))
    return np.concatenate(found) if found else np.empty((0, k), np.int64)

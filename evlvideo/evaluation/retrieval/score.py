"""Scores features by recalls and ranks in both directions, and formats a result as lines."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np

from evlvideo.errors import UserError
from evlvideo.evaluation.retrieval.pairs import RetrievalSplit, check_features
from evlvideo.metrics.retrieval.ranks import SAME_SIMILARITY, TIES, Places, RightPairs, Ties, pairs_of, place
from evlvideo.metrics.retrieval.reranking import rerank
from evlvideo.metrics.retrieval.scores import DirectionScores, Measure, direction_scores, mean_recall
from evlvideo.metrics.retrieval.similarities import similarity_blocks
from evlvideo.results.provenance import git_commit, versions
from evlvideo.results.records import NOT_PUBLISHED
from evlvideo.results.retrieval.features import Matching, RetrievalFeatures
from evlvideo.results.retrieval.records import IMAGE_TO_TEXT, TEXT_TO_IMAGE, RetrievalResult

_TITLES = {IMAGE_TO_TEXT: "image → text", TEXT_TO_IMAGE: "text → image"}


def score_feature_file(
    path: Path, split: RetrievalSplit | None = None, *, ties: Ties = "pessimistic", add_similarity: bool = True
) -> RetrievalResult:
    """Score a feature file; see :func:`score_features`.

    Raises:
        UserError: also if the file cannot be read.
    """
    features = RetrievalFeatures.read(path)
    return score_features(features, split, name=path.stem, ties=ties, add_similarity=add_similarity, feature_file=path)


def score_features(
    features: RetrievalFeatures,
    split: RetrievalSplit | None = None,
    *,
    name: str,
    ties: Ties = "pessimistic",
    add_similarity: bool = True,
    seed: int = 0,
    feature_file: Path | None = None,
) -> RetrievalResult:
    """Score features in both directions, by similarity and, if they come with matching scores, re-ranked by these.

    Args:
        features: of the images and texts.
        split: what they must be of. If None, they are scored as they are.
        name: what tables call the system.
        ties: see :mod:`evlvideo.metrics.retrieval.ranks`.
        add_similarity: whether the similarity is added to the matching score, as BLIP does and ALBEF does not.
        seed: seeds the resamples of intervals.
        feature_file: file of the features.

    Raises:
        UserError: the features are not those of the split, or matching scores are NaN.
    """
    if split is not None:
        check_features(features, split)
    of_images, of_texts = pairs_of(features.owner)
    sides = (
        (IMAGE_TO_TEXT, features.images, features.texts, of_images, features.image_matching, features.image_ids),
        (TEXT_TO_IMAGE, features.texts, features.images, of_texts, features.text_matching, features.text_ids),
    )
    similarity: dict[str, DirectionScores] = {}
    reranked: dict[str, DirectionScores] = {}
    ranks: dict[str, dict[str, float]] = {}
    for direction, queries, candidates, right, matching, ids in sides:
        places = place(similarity_blocks(queries, candidates), right, SAME_SIMILARITY)
        similarity[direction] = direction_scores(places, len(candidates), ties=ties, seed=seed)
        if matching is not None:
            places = _reranked(places, right, queries, candidates, matching, add_similarity=add_similarity)
            reranked[direction] = direction_scores(places, len(candidates), ties=ties, seed=seed)
        ranks[direction] = dict(zip(ids, places.ranks(ties).tolist(), strict=True))
    known = {"similarity": similarity, "reranked": reranked}
    return RetrievalResult(
        name=name,
        dataset=split.dataset if split else name,
        split=split.split if split else None,
        images=len(features.image_ids),
        texts=len(features.text_ids),
        ties=ties,
        similarity=similarity,
        reranked=reranked,
        mean_recall={way: mean_recall(found.values()) for way, found in known.items() if len(found) == len(sides)},
        ranks=ranks,
        candidates=_re_ranked_candidates(features),
        add_similarity=add_similarity if reranked else None,
        deviations=list(split.deviations) if split else [],
        versions=versions(),
        feature_file=None if feature_file is None else str(feature_file),
        commit=git_commit(),
    )


def checked_ties(ties: str) -> Ties:
    """Check a way to count ties.

    Raises:
        UserError: it is unknown.
    """
    if ties not in TIES:
        raise UserError(f"ties is {ties!r}; allowed: {', '.join(TIES)}.")
    return cast(Ties, ties)


def _reranked(
    places: Places,
    right: RightPairs,
    queries: np.ndarray,
    candidates: np.ndarray,
    matching: Matching,
    *,
    add_similarity: bool,
) -> Places:
    scores = matching.scores
    if add_similarity:
        scores, start = scores.copy(), 0
        for block in similarity_blocks(queries, candidates):
            rows = slice(start, start + len(block))
            scores[rows] += np.take_along_axis(block, matching.candidates[rows], axis=1)
            start += len(block)
    return rerank(places, right, matching.candidates, scores)


def _re_ranked_candidates(features: RetrievalFeatures) -> int | None:
    widths = [m.candidates.shape[1] for m in (features.image_matching, features.text_matching) if m is not None]
    return max(widths, default=None)


def retrieval_lines(result: RetrievalResult) -> list[str]:
    """Return a table of both directions with intervals, and lines that say what was scored."""
    lines = _table("by similarity", result.similarity)
    if result.reranked:
        added = "matching + similarity" if result.add_similarity else "matching alone"
        lines += _table(f"re-ranked: the best {result.candidates} by {added}", result.reranked)
    means = [f"{100 * value:.2f} ({way})" for way, value in result.mean_recall.items()]
    lines.append(f"mean recall: {', '.join(means)}")
    of = result.dataset if result.split is None else f"{result.dataset}:{result.split}"
    lines.append(
        f"{result.images:,} images and {result.texts:,} texts of {of}; ties are {result.ties}; intervals of 95 % by "
        "the bootstrap over queries"
    )
    if result.deviations:
        lines.append(f"NOT THE PUBLISHED SPLIT: {'. '.join(result.deviations)}. {NOT_PUBLISHED}")
    return lines


def _table(title: str, directions: dict[str, DirectionScores]) -> list[str]:
    first = next(iter(directions.values()))
    header = ["", *(f"R@{k}" for k in first.recalls), "median rank", "mean rank"]
    rows = [
        [
            _TITLES[direction],
            *(_cell(recall, 100) for recall in scores.recalls.values()),
            _cell(scores.median_rank),
            _cell(scores.mean_rank),
        ]
        for direction, scores in directions.items()
    ]
    return [f"{title}:", *_columns([header, *rows])]


def _cell(measure: Measure, times: int = 1) -> str:
    value, low, high = (f"{times * number:.1f}" for number in (measure.value, measure.low, measure.high))
    return f"{value} [{low}, {high}]"


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]

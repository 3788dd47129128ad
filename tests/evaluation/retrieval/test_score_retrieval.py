"""Scores of feature files, against the lists of a dataset."""

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tiny_data import SHARED_DATA

from evlvideo.errors import UserError
from evlvideo.evaluation.retrieval.pairs import RetrievalSplit, check_features, read_query_list, read_retrieval_split
from evlvideo.evaluation.retrieval.score import retrieval_lines, score_features
from evlvideo.metrics.retrieval.similarities import best_candidates
from evlvideo.results.retrieval.features import Matching, RetrievalFeatures
from evlvideo.results.retrieval.records import RetrievalResult


def features_of(ids: Sequence[str], texts_each: int = 1, noise: float = 0.5, seed: int = 0) -> RetrievalFeatures:
    """Texts are near their images."""
    generator = np.random.default_rng(seed)
    images = generator.normal(size=(len(ids), 16))
    owner = np.repeat(np.arange(len(ids)), texts_each)
    texts = images[owner] + noise * generator.normal(size=(len(owner), 16))
    return RetrievalFeatures(images, texts, list(ids), [f"t{number}" for number in range(len(owner))], owner)


def coco(root: Path, texts: Sequence[int]) -> Path:
    images = [
        {
            "filepath": "val2014",
            "filename": f"{number}.jpg",
            "cocoid": number,
            "split": "test",
            "sentences": [{"raw": f"caption {k}"} for k in range(count)],
        }
        for number, count in enumerate(texts)
    ]
    (root / "dataset_coco.json").write_text(json.dumps({"images": images}))
    return root


def query_list(path: Path, ids: Sequence[str]) -> Path:
    path.write_text("key,vid_key,video_id,sentence\n" + "".join(f"k,m,{name},a query\n" for name in ids))
    return path


def test_both_directions_are_scored() -> None:
    ids = [f"video{number}" for number in range(40)]
    result = score_features(features_of(ids, 5), name="ours")
    similarity = result.similarity
    assert (similarity["image_to_text"].queries, similarity["image_to_text"].candidates) == (40, 200)
    assert (similarity["text_to_image"].queries, similarity["text_to_image"].candidates) == (200, 40)
    assert similarity["image_to_text"].recalls[1].value > similarity["text_to_image"].recalls[1].value > 0.5
    assert result.mean_recall.keys() == {"similarity"}
    assert result.ranks["image_to_text"].keys() == set(ids)


def test_equal_features_find_nothing() -> None:
    same = RetrievalFeatures(np.ones((20, 3)), np.ones((20, 3)), *[[f"x{n}" for n in range(20)]] * 2, np.arange(20))
    assert score_features(same, name="collapsed").mean_recall["similarity"] == 0
    expected = score_features(same, name="collapsed", ties="expected").similarity["text_to_image"]
    assert expected.recalls[10].value == pytest.approx(0.5)
    assert expected.mean_rank.value == pytest.approx(10.5)


@pytest.mark.parametrize("add_similarity", [True, False])
def test_matching_scores_re_rank(add_similarity: bool) -> None:
    features = features_of([str(number) for number in range(30)], noise=2.0)
    best = best_candidates(features.images, features.texts, 3)
    # The matching head is sure that the right text is worse.
    scores = np.where(best == np.arange(30)[:, None], -5.0, 0.0).astype(np.float32)
    features = RetrievalFeatures(**(vars(features) | {"image_matching": Matching(best, scores)}))
    result = score_features(features, name="ours", add_similarity=add_similarity)
    assert result.reranked.keys() == {"image_to_text"}
    assert result.reranked["image_to_text"].recalls[1].value == 0
    assert result.reranked["image_to_text"].recalls[5] == result.similarity["image_to_text"].recalls[5]
    assert result.mean_recall.keys() == {"similarity"}
    assert (result.candidates, result.add_similarity) == (3, add_similarity)
    lines = "\n".join(retrieval_lines(result))
    assert ("the best 3 by matching + similarity" in lines) == add_similarity


def test_the_similarity_decides_between_equal_matching_scores() -> None:
    features = features_of([str(number) for number in range(30)], noise=2.0)
    best = best_candidates(features.images, features.texts, 30)
    matching = Matching(best, np.zeros(best.shape, np.float32))
    features = RetrievalFeatures(**(vars(features) | {"image_matching": matching}))
    added = score_features(features, name="ours", add_similarity=True)
    assert added.reranked["image_to_text"] == added.similarity["image_to_text"]
    assert score_features(features, name="ours", add_similarity=False).reranked["image_to_text"].recalls[10].value == 0


def test_a_result_that_is_saved_is_loaded(tmp_path: Path) -> None:
    result = score_features(features_of(["a", "b", "c"], 2), name="ours")
    result.save(tmp_path / "result.json")
    assert RetrievalResult.load(tmp_path / "result.json") == result
    (tmp_path / "result.json").write_text('{"schema": "evlvideo-retrieval-1", "similarity": {"x": {}}}')
    with pytest.raises(UserError, match="not a complete result file"):
        RetrievalResult.load(tmp_path / "result.json")


def test_features_are_of_the_split(tmp_path: Path) -> None:
    split = read_retrieval_split("coco", coco(tmp_path, [5, 5, 7]), check_counts=False)
    assert split.texts == {"0": 5, "1": 5, "2": 7}
    assert "lists 3 clips of coco:test, which has 5000" in split.deviations[0]
    check_features(features_of(["2", "0", "1"], 5), split)
    check_features(_with_counts(["0", "1", "2"], [5, 5, 7]), split)


def _with_counts(ids: Sequence[str], counts: Sequence[int]) -> RetrievalFeatures:
    owner = np.repeat(np.arange(len(ids)), counts)
    names = [f"t{number}" for number in range(len(owner))]
    return RetrievalFeatures(np.eye(len(ids)), np.eye(len(ids))[owner], list(ids), names, owner)


@pytest.mark.parametrize(
    ("ids", "counts", "message"),
    [
        (["0", "1"], [5, 5], "1 of the 3 images of coco:test have no features: 2"),
        (["0", "1", "2", "9"], [5, 5, 7, 5], "1 images with features are not of coco:test: 9"),
        (["0", "1", "2"], [5, 4, 7], "1 images of coco:test have other numbers of texts .* 1: 4 instead of 5"),
        (["0", "1", "2", "3"], [5, 5, 5, 7], "such as 2: 5 instead of 7"),
    ],
)
def test_features_of_others_are_refused(ids: Sequence[str], counts: Sequence[int], message: str) -> None:
    texts = {"0": 5, "1": 5, "2": 7} | ({"3": 7} if len(ids) == 4 and "3" in ids else {})
    with pytest.raises(UserError, match=message):
        check_features(_with_counts(ids, counts), RetrievalSplit("coco", "test", texts, ()))


def test_the_list_of_queries_is_enough_for_msrvtt(tmp_path: Path) -> None:
    ids = [f"video{number}" for number in range(7010, 8010)]
    split = read_query_list(query_list(tmp_path / "list.csv", ids))
    assert (split.dataset, split.split, len(split.texts), split.deviations) == ("msrvtt", "jsfusion", 1000, ())
    assert "1,000 images and 1,000 texts of msrvtt:jsfusion" in "\n".join(
        retrieval_lines(score_features(features_of(ids), split, name="ours"))
    )


def test_a_list_of_other_length_is_refused(tmp_path: Path) -> None:
    path = query_list(tmp_path / "list.csv", ["video1", "video2"])
    with pytest.raises(UserError, match=r"lists 2 clips of msrvtt:jsfusion, which has 1000; get the list again"):
        read_query_list(path)
    lines = retrieval_lines(
        score_features(features_of(["video1", "video2"]), read_query_list(path, check_counts=False), name="ours")
    )
    assert "NOT THE PUBLISHED SPLIT" in lines[-1]
    with pytest.raises(UserError, match="lists 0 clips"):
        read_query_list(query_list(path, []), check_counts=False)


@pytest.mark.skipif(not (SHARED_DATA / "msrvtt").is_dir(), reason="the official annotation is not on this machine")
def test_queries_of_the_official_annotation_are_read(tmp_path: Path) -> None:
    for archive in (SHARED_DATA / "msrvtt").glob("*.zip"):
        with zipfile.ZipFile(archive) as file:
            file.extractall(tmp_path, [name for name in file.namelist() if name.endswith(".json")])
    query_list(tmp_path / "MSRVTT_JSFUSION_test.csv", [f"video{number}" for number in range(7010, 8010)])
    split = read_retrieval_split("msrvtt", tmp_path)
    assert (split.split, len(split.texts), set(split.texts.values()), split.deviations) == ("jsfusion", 1000, {1}, ())

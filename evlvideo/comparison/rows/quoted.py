"""Quoted rows: published numbers, not measured here and marked as such."""

from collections.abc import Mapping

from evlvideo.comparison.rows.row import SCORES, Row

_POSTER = "EVLGen (Jian et al., ACL 2024, arXiv 2310.03291), poster"

# In the order of SCORES, as printed.
_POSTER_MSRVTT: dict[str, tuple[float, float, float, float]] = {
    "Video-LLaMA": (59.3, 47.7, 29.6, 63.7),
    "VideoChat": (58.0, 46.5, 29.5, 63.4),
    "VideoCoCa (open)": (63.0, 48.5, 31.4, 64.8),
    "EVLGen, concat baseline": (65.5, 44.4, 31.9, 64.1),
    "EVLGen, mean baseline": (67.8, 47.3, 32.2, 65.0),
    "EVLGen-image": (68.4, 47.6, 32.4, 65.3),
    "EVLGen-video": (69.8, 48.3, 32.6, 65.8),
    "EVLGen-video-scst": (74.0, 49.2, 33.0, 66.5),
}


_POSTER_NOCAPS: dict[str, tuple[float, float, float, float]] = {
    "BLIP-2, OPT-2.7b": (112.2, 44.4, 29.5, 59.7),
    "EVLGen, OPT-2.7b": (117.4, 45.9, 30.3, 61.1),
    "BLIP-2, Vicuna-7b": (115.6, 45.3, 30.3, 60.6),
    "EVLGen, Vicuna-7b": (119.0, 45.9, 30.6, 61.5),
}
_POSTER_FLICKR30K: dict[str, tuple[float, float, float, float]] = {
    "BLIP-2, OPT-2.7b": (77.1, 28.7, 23.9, 51.6),
    "EVLGen, OPT-2.7b": (82.0, 30.0, 24.5, 52.4),
    "BLIP-2, Vicuna-7b": (80.0, 30.1, 24.8, 52.1),
    "EVLGen, Vicuna-7b": (81.8, 30.3, 24.5, 52.2),
}
# VQAv2 val, GQA test-dev and OK-VQA test accuracy, COCO val CIDEr.
_POSTER_OPT: dict[str, tuple[float, float, float, float]] = {
    "BLIP-2, OPT-2.7b, 250k + 80k steps": (44.6, 30.6, 26.0, 137.7),
    "EVLGen, OPT-2.7b, 150k steps": (46.9, 30.8, 24.8, 137.0),
    "EVLGen, OPT-2.7b, 250k steps": (48.4, 30.9, 27.2, 139.1),
    "EVLGen, OPT-2.7b, 11M pairs, 150k steps": (46.3, 30.0, 23.0, 135.1),
    "EVLGen, OPT-2.7b, 55M trained (its layers are not stated), 90k steps": (45.9, 30.6, 25.8, 134.0),
}
_OF_OPT = {
    ("vqav2", "validate"): (0, "vqa_accuracy_lavis", "VQAv2 val, by LAVIS's evaluator"),
    ("gqa", "test_dev"): (1, "gqa_accuracy", "GQA test-dev"),
    ("okvqa", "test"): (2, "vqa_accuracy_lavis_lemmas", "OK-VQA test, by LAVIS's evaluator, lemmas as its config says"),
    ("coco", "validate"): (3, "cider", "COCO val"),
}
"""Dataset and split → the place in the rows of :data:`_POSTER_OPT`, the column, and what they are of."""
_CAPTIONED = {
    ("msrvtt", "test"): (_POSTER_MSRVTT, "MSR-VTT test"),
    ("nocaps", "validate"): (_POSTER_NOCAPS, "NoCaps, whose split it does not state"),
    ("flickr30k", "test"): (_POSTER_FLICKR30K, "Flickr30k"),
}
"""Dataset and split → the rows with scores in the order of SCORES, and what they are of."""


def quoted_rows(dataset: str, split: str) -> list[Row]:
    """Return the quoted rows of a dataset and split, of captions or of answers. Empty if nothing was published for it.

    Source: the tables of EVLGen's poster.
    """
    if found := _CAPTIONED.get((dataset, split)):
        rows, of = found
        return [_row(name, dict(zip(SCORES, scores, strict=True)), of) for name, scores in rows.items()]
    if (dataset, split) not in _OF_OPT:
        return []
    place, key, of = _OF_OPT[dataset, split]
    return [_row(name, {key: scores[place]}, of) for name, scores in _POSTER_OPT.items()]


def _row(name: str, scores: Mapping[str, float], of: str) -> Row:
    values = {key: round(score / 100, 4) for key, score in scores.items()}
    return Row(name=name, regime="quoted", source=f"{_POSTER}, {of}", values=values)

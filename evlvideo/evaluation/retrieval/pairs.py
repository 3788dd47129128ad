"""The images and texts of a dataset's split, which features must be of."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evlvideo.data.annotation.facts import DATASETS, count_deviations, facts_of
from evlvideo.data.annotation.readers.msrvtt import TESTED, read_queries
from evlvideo.data.annotation.splits import RETRIEVAL, dataset_root, read_split
from evlvideo.errors import UserError, first_ten
from evlvideo.results.retrieval.features import RetrievalFeatures

MSRVTT = "msrvtt"
TEXTS = 5
"""Texts of each image that count if only these have features: some images of COCO have a sixth and a seventh, which
BLIP and ALBEF search, and others leave out."""


@dataclass(frozen=True, slots=True)
class RetrievalSplit:
    """What is retrieved on a split."""

    dataset: str
    split: str
    texts: Mapping[str, int]
    """Image or clip → number of its texts."""
    deviations: tuple[str, ...]
    """How these differ in number from the published split."""


def read_retrieval_split(
    dataset: str, root: Path | None, split: str | None = None, *, check_counts: bool = True
) -> RetrievalSplit:
    """Read what is retrieved on a split from a dataset's annotation; no image or video is needed.

    Args:
        dataset: a key of :data:`evlvideo.data.annotation.facts.DATASETS`.
        root: its directory.
        split: its split. Defaults to the one on which papers report retrieval.
        check_counts: whether there must be as many images and texts as published.

    Raises:
        UserError: the annotation is missing, malformed or not the published one.
    """
    facts = facts_of(dataset)
    split = split or facts.retrieval_split
    clips = read_split(
        dataset,
        split,
        dataset_root(dataset, root),
        check_files=False,
        purpose=RETRIEVAL,
        check_counts=check_counts,
    )
    texts = dict(zip(clips.ids, clips.caption_counts().tolist(), strict=True))
    return RetrievalSplit(
        dataset, split, texts, tuple(count_deviations(dataset, facts, split, clips.ids, clips.caption_counts()))
    )


def read_query_list(path: Path, *, check_counts: bool = True) -> RetrievalSplit:
    """Read what is retrieved on MSR-VTT's 1k-A from the list alone.

    Raises:
        UserError: the list is missing, malformed or not of 1,000 clips.
    """
    ids = [clip_id for clip_id, _ in read_queries(path)]
    found = count_deviations(MSRVTT, DATASETS[MSRVTT], TESTED, ids, np.ones(len(ids), int))
    if not ids or (check_counts and found):
        raise UserError(
            f"{path}: {found[0]}; get the list again, or, if these are a part of it, say so with --no-check-counts."
        )
    return RetrievalSplit(MSRVTT, TESTED, dict.fromkeys(ids, 1), tuple(found))


def check_features(features: RetrievalFeatures, split: RetrievalSplit) -> None:
    """Check that features are those of all images and texts of a split.

    Raises:
        UserError: images are missing or none of the split, or have other numbers of texts.
    """
    name, known = f"{split.dataset}:{split.split}", set(features.image_ids)
    missing = [image for image in split.texts if image not in known]
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(split.texts)} images of {name} have no features: {first_ten(missing)}; "
            "extract them too, since scores among fewer candidates are higher."
        )
    others = [image for image in features.image_ids if image not in split.texts]
    if others:
        raise UserError(f"{len(others)} images with features are not of {name}: {first_ten(others)}; leave them out.")
    counts = dict(zip(features.image_ids, np.bincount(features.owner).tolist(), strict=True))
    of_all = [image for image, count in counts.items() if count != split.texts[image]]
    of_first = [image for image, count in counts.items() if count != min(TEXTS, split.texts[image])]
    wrong = min(of_all, of_first, key=len)
    if wrong:
        raise UserError(
            f"{len(wrong)} images of {name} have other numbers of texts than the annotation, such as {wrong[0]}: "
            f"{counts[wrong[0]]} instead of {split.texts[wrong[0]]}; give features of all, or of the first {TEXTS} of "
            "each."
        )

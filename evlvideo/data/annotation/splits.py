"""Read splits of datasets by name, and check their counts and files.

:mod:`evlvideo.data.annotation.readers` reads the formats. Splits have the same names in every dataset: `train`,
`validate` and `test`.
"""

import os
from pathlib import Path

from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.annotation.facts import DatasetFacts, count_problems, facts_of, media_root
from evlvideo.data.annotation.missing_files import missing_files, some_missing
from evlvideo.errors import UserError
from evlvideo.mini.rendered import root_of

CAPTIONING, RETRIEVAL = PURPOSES = ("captioning", "retrieval")
"""Purposes of reading a split."""


def dataset_root(dataset: str, root: Path | None) -> Path:
    """Return the directory of a dataset; see :func:`evlvideo.mini.rendered.root_of`.

    Raises:
        UserError: the dataset is unknown, or needs a root.
    """
    facts_of(dataset)
    return root_of(dataset, root)


def read_split(
    dataset: str,
    split: str,
    root: Path,
    video_root: Path | None = None,
    check_files: bool = True,
    *,
    purpose: str = CAPTIONING,
    check_counts: bool = True,
    facts: DatasetFacts | None = None,
) -> ClipTable:
    """Read the clips of one split, in the order of the annotation.

    Args:
        dataset: a key of :data:`DATASETS`.
        split: `train`, `validate`, `test`, or a retrieval split of the dataset.
        root: directory of the dataset.
        video_root: directory of the video or image files. Defaults to the dataset's folder under `root`.
        check_files: whether every clip's file must exist.
        purpose: must be `retrieval` to read a retrieval split.
        check_counts: whether there must be as many clips and captions as the published dataset has.
        facts: facts of the dataset. Defaults to those of its name.

    Raises:
        UserError: the dataset or split is unknown or for another purpose, an annotation file is missing or malformed,
            the counts of clips or captions are wrong, or media files are missing.
    """
    facts = facts or facts_of(dataset)
    _check_split(dataset, facts, split, purpose)
    media = media_root(facts, root, video_root)
    clips = ClipTable(facts.read(root, media, split))
    for problem in count_problems(dataset, facts, split, clips, check_counts=check_counts):
        raise UserError(problem)
    if check_files:
        check_media(clips, media)
    return clips


def check_media(clips: ClipTable, media: Path) -> None:
    """Check that every clip's file exists.

    Raises:
        UserError: the media root is not a directory, or files are missing.
    """
    if not media.is_dir():
        raise UserError(f"The video root {media} is not a directory; set data.video_root to the one with the videos.")
    missing = missing_files(clips)
    if missing:
        names = [os.path.relpath(clips[number].video, media) for number in missing]
        raise UserError(
            f"{len(missing)} of {len(clips)} videos are not in {media}: {some_missing(media, names)}. "
            "Download the rest, set data.video_root to the directory that holds them, or remove clips without a file "
            "from a copy of the annotation, and set data.check_counts=false."
        )


def _check_split(dataset: str, facts: DatasetFacts, split: str, purpose: str) -> None:
    clips = facts.clips()
    if purpose not in PURPOSES:
        raise UserError(f"The purpose is {purpose!r}; allowed: {', '.join(PURPOSES)}.")
    if split in facts.retrieval_splits and purpose != RETRIEVAL:
        raise UserError(
            f"{dataset}:{split} is a split for retrieval, which cuts across the captioning splits, so captions scored "
            f"on it compare with no published number; allowed: {', '.join(clips)}."
        )
    if split not in clips and split not in facts.retrieval_splits:
        raise UserError(f"The dataset {dataset!r} has no split {split!r}; allowed: {', '.join(clips)}.")

"""Clips and captions of the data sets, by name and named split; counts are checked.

The formats are read in :mod:`evlvideo.data.annotation.readers`. Splits have the same names in every data set: `train`,
`validate` and `test`, as far as it has them.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from evlvideo.data.annotation.captioned import CaptionedClip
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.annotation.missing_files import missing_files
from evlvideo.data.annotation.readers import jsonl, karpathy, lavis, msrvtt, msvd, webvid
from evlvideo.data.annotation.readers.common import (
    Reader,
    clip_name,
    json_entries,
    needed,
    one_caption,
    read_json_object,
    some,
)
from evlvideo.data.annotation.readers.listed_captions import ListedCaptions
from evlvideo.errors import UserError

__all__ = ["DATASETS", "CaptionedClip", "DatasetFacts", "locate", "read_references", "read_split"]

PURPOSES = ("captioning", "retrieval")
"""What a split is read for."""


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """What a complete data set holds, and how it is read."""

    read: Reader
    """Reads a split of its format."""
    files: Callable[[Path, str], tuple[Path, ...]]
    """Names the annotation files that a split is read from, by the root and the split."""
    clips: Callable[[], Mapping[str, int | None]]
    """Gives the number of clips of each split; `None` where copies of the data set differ."""
    captions_per_clip: int | None = None
    """Captions of every clip, where all have as many."""
    retrieval_splits: Mapping[str, int] = field(default_factory=dict)
    """Clips of the splits that exist for another task, and on which captions are not scored."""
    media_folders: tuple[str, ...] = ("videos",)
    """Where the media files are, under the root: the first of these folders that is there."""


def _mini_clips() -> Mapping[str, int]:
    from evlvideo.mini.build import SPLITS

    return SPLITS


DATASETS: dict[str, DatasetFacts] = {
    "msrvtt": DatasetFacts(
        msrvtt.read,
        msrvtt.files,
        lambda: {"train": 6513, "validate": 497, "test": 2990},
        captions_per_clip=20,
        retrieval_splits={"train_7k": 7010, "train_9k": 9000, "jsfusion": 1000},
    ),
    "mini": DatasetFacts(msrvtt.read, msrvtt.files, _mini_clips, captions_per_clip=20),
    "msvd": DatasetFacts(
        msvd.read,
        msvd.files,
        lambda: {"train": 1200, "validate": 100, "test": 670},
        media_folders=("videos", "YouTubeClips"),
    ),
    "webvid": DatasetFacts(webvid.read, webvid.files, lambda: {"train": None, "validate": None}),
    "coco": DatasetFacts(
        karpathy.read_coco,
        karpathy.coco_files,
        lambda: {"train": 113_287, "validate": 5000, "test": 5000},
        media_folders=("images",),
    ),
    "flickr30k": DatasetFacts(
        karpathy.read_flickr30k,
        karpathy.flickr30k_files,
        lambda: {"train": 29_000, "validate": 1014, "test": 1000},
        captions_per_clip=5,
        media_folders=("images", "flickr30k-images"),
    ),
    "lavis": DatasetFacts(
        lavis.read, lavis.files, lambda: dict.fromkeys(lavis.SUFFIXES), media_folders=("videos", "images")
    ),
    "jsonl": DatasetFacts(jsonl.read, jsonl.files, lambda: dict.fromkeys(jsonl.SPLITS), media_folders=(".",)),
}
"""Data sets by name."""


def locate(dataset: str, root: Path | None) -> Path:
    """Find the directory of a data set; the mini data set without one is rendered on first use.

    Raises:
        UserError: the data set is unknown, or it needs a root and has none.
    """
    facts_of(dataset)
    if root is not None:
        return root
    if dataset != "mini":
        raise UserError(f"The data set {dataset!r} has no root; set data.root to the directory that holds it.")
    from evlvideo.mini.build import build_mini

    return build_mini()


def read_split(
    dataset: str,
    split: str,
    root: Path,
    video_root: Path | None = None,
    check_files: bool = True,
    *,
    purpose: str = "captioning",
    facts: DatasetFacts | None = None,
) -> ClipTable:
    """Read the clips of one split, in the order of the annotation.

    Args:
        dataset: a key of :data:`DATASETS`.
        split: `train`, `validate` or `test`, as far as the data set has them, or one of its retrieval splits.
        root: directory of the data set.
        video_root: directory of the video or image files; the data set's folder under `root` where none is named.
        check_files: whether every clip's file must be there.
        purpose: `retrieval` has to be named to read a split made for it; all else is read for `captioning`.
        facts: what the data set holds, where that is not what is known by its name.

    Raises:
        UserError: the data set or split is unknown or for another purpose, a file or directory is missing or
            malformed, the numbers of clips or captions are not the data set's own, or clips are not on disk.
    """
    facts = facts or facts_of(dataset)
    _check_split(dataset, facts, split, purpose)
    media = media_root(facts, root, video_root)
    clips = ClipTable(facts.read(root, media, split))
    counts = clips.caption_counts()
    expected = counts if facts.captions_per_clip is None else facts.captions_per_clip
    uneven = [clips.ids[number] for number in np.flatnonzero(counts != expected).tolist()]
    for problem in count_problems(dataset, facts, split, len(clips), uneven):
        raise UserError(problem)
    if check_files:
        _check_files(clips, media)
    return clips


def _check_files(clips: ClipTable, media: Path) -> None:
    if not media.is_dir():
        raise UserError(f"The video root {media} is not a directory; set data.video_root to the one with the videos.")
    missing = missing_files(clips)
    if missing:
        names = (os.path.relpath(clips[number].video, media) for number in missing)
        raise UserError(
            f"{len(missing)} of {len(clips)} videos are not in {media}: {some(names)}. "
            "Download the rest, or set data.video_root to the directory that holds them."
        )


def read_references(path: Path) -> dict[str, list[str]]:
    """Read reference captions, for every clip of a file.

    Three forms are read: MSR-VTT's official JSON; `{"images": [{"id"}], "annotations": [{"image_id", "caption"}]}`; and
    `{clip id: [caption, …]}`. Ids become strings.

    Raises:
        UserError: the file is none of these, names a clip in its captions only, or has a clip without captions.
    """
    content = read_json_object(path)
    if content.keys() >= {"videos", "sentences"}:
        return {clip.clip_id: list(clip.captions) for clip, _ in msrvtt.read_official(path, path.parent)}
    if content.keys() >= {"images", "annotations"}:
        images = json_entries(path, content, "images")
        ids = [clip_name(place, needed(place, image, "id")) for place, image in images]
        captions = ListedCaptions()
        for place, entry in json_entries(path, content, "annotations"):
            clip_id = clip_name(place, needed(place, entry, "image_id"))
            captions.add(clip_id, one_caption(place, needed(place, entry, "caption")))
        return dict(zip(ids, map(list, captions.of_clips(path, ids)), strict=True))
    if not content:
        raise UserError(f"{path} holds no clips; give references.")
    for clip_id, captions in content.items():
        if not isinstance(captions, list) or not captions or not all(isinstance(text, str) for text in captions):
            raise UserError(
                f"{path}: {clip_id!r} does not hold a list of captions. References are MSR-VTT's official JSON, "
                'a COCO-like file with "images" and "annotations", or {clip id: [caption, …]}.'
            )
    return content


def facts_of(dataset: str) -> DatasetFacts:
    """Look a data set up.

    Raises:
        UserError: it is unknown.
    """
    if dataset not in DATASETS:
        raise UserError(f"The data set is {dataset!r}; allowed: {', '.join(DATASETS)}.")
    return DATASETS[dataset]


def media_root(facts: DatasetFacts, root: Path, video_root: Path | None) -> Path:
    """Choose the directory of the media files: the one named, or the first folder under the root that is there."""
    if video_root is not None:
        return video_root
    folders = [root / name for name in facts.media_folders]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def count_problems(dataset: str, facts: DatasetFacts, split: str, clips: int, uneven: Sequence[str]) -> Iterator[str]:
    """Tell where the numbers of clips and captions are not the data set's own.

    Args:
        dataset: name of the data set.
        facts: what it holds.
        split: one of its splits.
        clips: how many clips the annotation lists.
        uneven: those that have not as many captions as the data set's clips have.
    """
    retrieval = split in facts.retrieval_splits
    expected = facts.retrieval_splits[split] if retrieval else facts.clips()[split]
    name = f"{dataset}:{split}"
    if not clips:
        yield f"The annotation lists no clips of {name}; add some, or name another split."
    elif expected not in (None, clips):
        yield f"The annotation lists {clips} clips of {name}, which has {expected}; get the official file again."
    if uneven and not retrieval:
        yield (
            f"The annotation has not {facts.captions_per_clip} captions for {some(uneven)} of {name}; "
            "get the official file again."
        )


def _check_split(dataset: str, facts: DatasetFacts, split: str, purpose: str) -> None:
    clips = facts.clips()
    if purpose not in PURPOSES:
        raise UserError(f"The purpose is {purpose!r}; allowed: {', '.join(PURPOSES)}.")
    if split in facts.retrieval_splits and purpose != "retrieval":
        raise UserError(
            f"{dataset}:{split} is a split for retrieval, which cuts across the captioning splits, so captions scored "
            f"on it compare with no published number; allowed: {', '.join(clips)}."
        )
    if split not in clips and split not in facts.retrieval_splits:
        raise UserError(f"The data set {dataset!r} has no split {split!r}; allowed: {', '.join(clips)}.")

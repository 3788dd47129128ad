"""Facts about each dataset: its splits, their counts, and its reader."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from evlvideo.data.annotation.captioned_clip import evidence_subsets
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.annotation.messages import some
from evlvideo.data.annotation.readers import coco, jsonl, karpathy, lavis, msrvtt, msvd, vatex, webvid
from evlvideo.data.annotation.readers.text_files import Reader
from evlvideo.errors import UserError


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """Facts about a complete dataset, and its reader."""

    read: Reader
    """Reads a split."""
    files: Callable[[Path, str], tuple[Path, ...]]
    """Returns the annotation files of a split, from the root and the split."""
    clips: Callable[[], Mapping[str, int | None]]
    """Returns the number of clips of each split; None if copies of the dataset differ."""
    captions_per_clip: int | None = None
    """Number of captions of every clip. If None, clips differ."""
    without_captions: tuple[str, ...] = ()
    """Splits whose captions only a server has."""
    subsets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Split → subset of its clips → their number, for splits whose subsets are published."""
    subset_frequencies: str = "split"
    """Where CIDEr's document frequencies on a subset come from: the whole `split`, or `own`, as if the subset were all,
    which is how the server of NoCaps scores its domains."""
    has_server: bool = False
    """Whether a server scores captions, as `[{"image_id": 7, "caption": …}]` with whole numbers."""
    retrieval_splits: Mapping[str, int] = field(default_factory=dict)
    """Number of clips of each retrieval split, on which captions are not scored."""
    retrieval_split: str = "test"
    """Split on which papers report retrieval."""
    media_folders: tuple[str, ...] = ("videos",)
    """Folders of the media files under the root; the first that exists is used."""

    def expected_clips(self, split: str) -> int | None:
        """Return the number of clips of a split, for captioning or retrieval; None if copies of the dataset differ."""
        return self.retrieval_splits[split] if split in self.retrieval_splits else self.clips()[split]


def _mini_clips() -> Mapping[str, int]:
    from evlvideo.mini.build import SPLITS

    return SPLITS


def _mini_images() -> Mapping[str, int]:
    from evlvideo.mini.images.build import SIZES

    return {split: SIZES[split] for split in ("train", "validate", "test")}


DATASETS: dict[str, DatasetFacts] = {
    "msrvtt": DatasetFacts(
        msrvtt.read,
        msrvtt.files,
        lambda: {"train": 6513, "validate": 497, "test": 2990},
        captions_per_clip=20,
        retrieval_splits={"train_7k": 7010, "train_9k": 9000, msrvtt.TESTED: 1000},
        retrieval_split=msrvtt.TESTED,
    ),
    "mini": DatasetFacts(msrvtt.read, msrvtt.files, _mini_clips, captions_per_clip=20),
    "msvd": DatasetFacts(
        msvd.read,
        msvd.files,
        lambda: {"train": 1200, "validate": 100, "test": 670},
        media_folders=("videos", "YouTubeClips"),
    ),
    "vatex": DatasetFacts(
        partial(vatex.read, language=vatex.ENGLISH),
        vatex.files,
        lambda: {"train": 25_991, "validate": 3000, "test": 6000},
        captions_per_clip=10,
    ),
    "vatex_zh": DatasetFacts(
        partial(vatex.read, language=vatex.CHINESE),
        vatex.files,
        lambda: {"train": 25_991, "validate": 3000},
        captions_per_clip=10,
    ),
    "webvid": DatasetFacts(webvid.read, webvid.files, lambda: {"train": None, "validate": None}),
    "coco": DatasetFacts(
        partial(karpathy.read, name=karpathy.COCO),
        partial(karpathy.files, name=karpathy.COCO),
        lambda: {"train": 113_287, "validate": 5000, "test": 5000},
        media_folders=("images",),
    ),
    "flickr30k": DatasetFacts(
        partial(karpathy.read, name=karpathy.FLICKR30K),
        partial(karpathy.files, name=karpathy.FLICKR30K),
        lambda: {"train": 29_000, "validate": 1014, "test": 1000},
        captions_per_clip=5,
        media_folders=("images", "flickr30k-images"),
    ),
    "nocaps": DatasetFacts(
        coco.read_nocaps,
        coco.nocaps_files,
        lambda: {"validate": 4500, "test": 10_600},
        captions_per_clip=10,
        without_captions=("test",),
        subsets={
            "validate": {"in-domain": 648, "near-domain": 2938, "out-domain": 914},
            "test": {"in-domain": 1311, "near-domain": 7406, "out-domain": 1883},
        },
        subset_frequencies="own",
        has_server=True,
        media_folders=("images",),
    ),
    "coco2014": DatasetFacts(
        partial(coco.read, year=2014),
        partial(coco.files, year=2014),
        lambda: {"train": 82_783, "validate": 40_504},
        media_folders=("images", "."),
    ),
    "coco2017": DatasetFacts(
        partial(coco.read, year=2017),
        partial(coco.files, year=2017),
        lambda: {"train": 118_287, "validate": 5000},
        media_folders=("images", "."),
    ),
    "mini_images": DatasetFacts(
        partial(karpathy.read, name=karpathy.COCO),
        partial(karpathy.files, name=karpathy.COCO),
        _mini_images,
        captions_per_clip=5,
        media_folders=("images",),
    ),
    "lavis": DatasetFacts(
        lavis.read, lavis.files, lambda: dict.fromkeys(lavis.SUFFIXES), media_folders=("videos", "images")
    ),
    "jsonl": DatasetFacts(jsonl.read, jsonl.files, lambda: dict.fromkeys(jsonl.SPLITS), media_folders=(".",)),
}
"""Datasets by name."""


def facts_of(dataset: str) -> DatasetFacts:
    """Look up the facts of a dataset.

    Raises:
        UserError: it is unknown.
    """
    if dataset not in DATASETS:
        raise UserError(f"The dataset is {dataset!r}; allowed: {', '.join(DATASETS)}.")
    return DATASETS[dataset]


def media_root(facts: DatasetFacts, root: Path, video_root: Path | None) -> Path:
    """Return `video_root` or, if it is None, the first media folder under the root that exists."""
    if video_root is not None:
        return video_root
    folders = [root / name for name in facts.media_folders]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


OWN_CLIPS = (
    "If these are a part of the dataset, or your own clips in its layout, say so with data.check_counts=false "
    "(--no-check-counts in a command without a config); or list your own clips in a captions.jsonl, which has no fixed "
    "counts (data.dataset=jsonl)."
)
"""What to do about counts that are meant."""


def count_deviations(
    dataset: str, facts: DatasetFacts, split: str, ids: Sequence[str], captions: np.ndarray
) -> list[str]:
    """List how the counts of a split differ from those of the published dataset. Empty if they do not.

    Args:
        dataset: name of the dataset.
        facts: its facts.
        split: one of its splits.
        ids: ids of the clips that the annotation lists.
        captions: number of captions of each.
    """
    retrieval = split in facts.retrieval_splits
    expected = facts.expected_clips(split)
    name, found = f"{dataset}:{split}", []
    if expected not in (None, len(ids)):
        found.append(f"The annotation lists {len(ids)} clips of {name}, which has {expected}")
    each = 0 if split in facts.without_captions else facts.captions_per_clip
    uneven = [] if each is None or retrieval else [ids[number] for number in np.flatnonzero(captions != each).tolist()]
    if uneven:
        found.append(f"The annotation does not have {each} captions for {some(uneven)} of {name}")
    return found


def deviations_of(dataset: str, split: str | None, references: Mapping[str, Sequence[str]]) -> list[str]:
    """List how the counts of references differ from those of a published split. Empty for a file of references."""
    facts = DATASETS.get(dataset)
    if facts is None or split is None or split not in facts.clips():
        return []
    counts = np.fromiter(map(len, references.values()), np.int64, len(references))
    return count_deviations(dataset, facts, split, list(references), counts)


def count_problems(
    dataset: str, facts: DatasetFacts, split: str, clips: ClipTable, *, check_counts: bool
) -> Iterator[str]:
    """Yield a message for each wrong count of clips or captions.

    Args:
        dataset: name of the dataset.
        facts: its facts.
        split: one of its splits.
        clips: the clips that the annotation lists.
        check_counts: whether counts must be those of the published dataset. If false, there must be a clip.
    """
    if not clips:
        yield f"The annotation lists no clips of {dataset}:{split}; add some, or name another split."
    elif check_counts:
        for deviation in count_deviations(dataset, facts, split, clips.ids, clips.caption_counts()):
            yield f"{deviation}; get the official file again. {OWN_CLIPS}"
        yield from _subset_problems(dataset, facts, split, clips)


def _subset_problems(dataset: str, facts: DatasetFacts, split: str, clips: ClipTable) -> Iterator[str]:
    """Yield a message if the subsets have other sizes than published. Some editions of a file name no subsets."""
    expected = facts.subsets.get(split, {})
    found = {name: len(members) for name, members in evidence_subsets(clips).items()} if expected else {}
    if expected and not found and split not in facts.without_captions:
        yield f"The annotation of {dataset}:{split} does not name {', '.join(expected)}; get the official file again."
    if found and found != expected:
        listed, wanted = (", ".join(f"{count:,} {name}" for name, count in of.items()) for of in (found, expected))
        yield f"The annotation has {listed} of {dataset}:{split}, not {wanted}; get the official file again."

"""Clips and captions from annotation files, by named split.

MSR-VTT's official layout is read, which the mini data set shares: `train_val_videodatainfo.json` and
`test_videodatainfo.json` under the root (or its `annotations` folder), and one mp4 file for each clip under `videos`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evlvideo.errors import UserError
from evlvideo.files import inside, read_json


@dataclass(frozen=True, slots=True)
class CaptionedClip:
    """A video file and what people wrote about it."""

    clip_id: str
    """Name of the clip in the annotation, such as `video7010`."""
    video: Path
    """Its video file."""
    captions: tuple[str, ...]
    """All captions, in the order of their `sen_id`."""
    category: int | None = None
    """MSR-VTT's topic number, from 0 to 19."""
    evidence: str | None = None
    """What the captions can be told from, in the mini data set: `one_frame`, `several_frames` or `frame_order`."""


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """What a complete data set holds."""

    clips: Callable[[], Mapping[str, int]]
    """Gives the number of clips of each split."""
    captions_per_clip: int
    retrieval_splits: tuple[str, ...] = ()
    """Splits that exist for another task, and on which captions are not scored."""


def _mini_clips() -> Mapping[str, int]:
    from evlvideo.data.mini.build import SPLITS

    return SPLITS


DATASETS: dict[str, DatasetFacts] = {
    "msrvtt": DatasetFacts(
        clips=lambda: {"train": 6513, "validate": 497, "test": 2990},
        captions_per_clip=20,
        retrieval_splits=("train_7k", "train_9k", "jsfusion"),
    ),
    "mini": DatasetFacts(clips=_mini_clips, captions_per_clip=20),
}
"""Data sets by name."""


def locate(dataset: str, root: Path | None) -> Path:
    """Find the directory of a data set; the mini data set without one is rendered on first use.

    Raises:
        UserError: the data set is unknown, or it needs a root and has none.
    """
    _facts(dataset)
    if root is not None:
        return root
    if dataset != "mini":
        raise UserError(f"The data set {dataset!r} has no root; set data.root to the directory that holds it.")
    from evlvideo.data.mini.build import build_mini

    return build_mini()


def read_split(
    dataset: str, split: str, root: Path, video_root: Path | None = None, check_files: bool = True
) -> list[CaptionedClip]:
    """Read the clips of one split, in the order of the annotation.

    Args:
        dataset: a key of :data:`DATASETS`.
        split: `train`, `validate` or `test`.
        root: directory of the data set.
        video_root: directory of the video files; `root`/videos where none is named.
        check_files: whether every clip's video must be there.

    Raises:
        UserError: the data set or split is unknown or for retrieval, a file or directory is missing or malformed, the
            numbers of clips or captions are not the data set's own, or clips are not on disk.
    """
    facts = _facts(dataset)
    expected = _expected_clips(dataset, facts, split)
    path = _annotation_file(root, "test" if split == "test" else "train_val")
    videos = video_root or root / "videos"
    if check_files and not videos.is_dir():
        raise UserError(f"The video root {videos} is not a directory; set data.video_root to the one with the videos.")
    clips = [clip for clip, of_split in _read_official(path, videos) if of_split == split]
    if len(clips) != expected:
        raise UserError(
            f"{path} lists {len(clips)} clips of {dataset}:{split}, which has {expected}; get the official file again."
        )
    uneven = [clip.clip_id for clip in clips if len(clip.captions) != facts.captions_per_clip]
    if uneven:
        raise UserError(
            f"{path} has not {facts.captions_per_clip} captions for {_some(uneven)} of {dataset}:{split}; "
            "get the official file again."
        )
    if check_files:
        _check_videos(clips, videos)
    return clips


def read_references(path: Path) -> dict[str, list[str]]:
    """Read reference captions, for every clip of a file.

    Three forms are read: MSR-VTT's official JSON; `{"images": [{"id"}], "annotations": [{"image_id", "caption"}]}`; and
    `{clip id: [caption, …]}`. Ids become strings.

    Raises:
        UserError: the file is none of these, names a clip in its captions only, or has a clip without captions.
    """
    content = _object(path)
    if content.keys() >= {"videos", "sentences"}:
        return {clip.clip_id: list(clip.captions) for clip, _ in _read_official(path, path.parent)}
    if content.keys() >= {"images", "annotations"}:
        ids = [str(_field(path, image, "id")) for image in _entries(path, content, "images")]
        return _captions(path, ids, _entries(path, content, "annotations"), "image_id")
    if not content:
        raise UserError(f"{path} holds no clips; give references.")
    for clip_id, captions in content.items():
        if not isinstance(captions, list) or not captions or not all(isinstance(text, str) for text in captions):
            raise UserError(
                f"{path}: {clip_id!r} does not hold a list of captions. References are MSR-VTT's official JSON, "
                'a COCO-like file with "images" and "annotations", or {clip id: [caption, …]}.'
            )
    return content


def _facts(dataset: str) -> DatasetFacts:
    if dataset not in DATASETS:
        raise UserError(f"The data set is {dataset!r}; allowed: {', '.join(DATASETS)}.")
    return DATASETS[dataset]


def _expected_clips(dataset: str, facts: DatasetFacts, split: str) -> int:
    clips = facts.clips()
    if split in facts.retrieval_splits:
        raise UserError(
            f"{dataset}:{split} is a split for retrieval, which cuts across the captioning splits, so captions scored "
            f"on it compare with no published number; allowed: {', '.join(clips)}."
        )
    if split not in clips:
        raise UserError(f"The data set {dataset!r} has no split {split!r}; allowed: {', '.join(clips)}.")
    return clips[split]


def _annotation_file(root: Path, part: str) -> Path:
    if not root.is_dir():
        raise UserError(f"The data root {root} is not a directory; set data.root to the one that holds the data set.")
    name = f"{part}_videodatainfo.json"
    for path in (root / name, root / "annotations" / name):
        if path.is_file():
            return path
    raise UserError(f"There is no {name} in {root} or {root / 'annotations'}; unpack the official annotation there.")


def _read_official(path: Path, video_root: Path) -> list[tuple[CaptionedClip, str]]:
    """Read every clip of an official file, with its split."""
    content = _object(path)
    videos = _entries(path, content, "videos")
    ids = [str(_field(path, video, "video_id")) for video in videos]
    sentences = _entries(path, content, "sentences")
    sentences = sorted(sentences, key=lambda sentence: _sentence_id(path, sentence))
    captions = _captions(path, ids, sentences, "video_id")
    return [
        (
            CaptionedClip(
                clip_id=clip_id,
                video=inside(video_root, f"{clip_id}.mp4"),
                captions=tuple(captions[clip_id]),
                category=video.get("category"),
                evidence=video.get("evidence"),
            ),
            str(_field(path, video, "split")),
        )
        for clip_id, video in zip(ids, videos, strict=True)
    ]


def _captions(path: Path, ids: list[str], sentences: list[dict[str, Any]], id_key: str) -> dict[str, list[str]]:
    """Group captions by clip, and hold the two lists against each other."""
    twice = [clip_id for clip_id, count in Counter(ids).items() if count > 1]
    if twice:
        raise UserError(f"{path} lists {_some(twice)} more than once; get the file again.")
    captions: dict[str, list[str]] = {clip_id: [] for clip_id in ids}
    unknown = []
    for sentence in sentences:
        clip_id, caption = str(_field(path, sentence, id_key)), _field(path, sentence, "caption")
        if not isinstance(caption, str):
            raise UserError(f"{path}: a caption of {clip_id!r} is {caption!r}; captions are strings.")
        if clip_id in captions:
            captions[clip_id].append(caption)
        else:
            unknown.append(clip_id)
    if unknown:
        raise UserError(f"{path} has captions of {_some(dict.fromkeys(unknown))}, not among its clips.")
    bare = [clip_id for clip_id in ids if not captions[clip_id]]
    if bare:
        raise UserError(f"{path} has no captions of {_some(bare)}; every clip needs at least one.")
    return captions


def _check_videos(clips: list[CaptionedClip], video_root: Path) -> None:
    missing = [clip.video.name for clip in clips if not clip.video.is_file()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(clips)} videos are not in {video_root}: {_some(missing)}. "
            "Download the rest, or set data.video_root to the directory that holds them."
        )


def _object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a JSON {type(content).__name__}; an object with clips and captions is needed.")
    return content


def _entries(path: Path, content: dict[str, Any], key: str) -> list[dict[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{path} has no list of objects under {key!r}; get the file again.")
    return entries


def _field(path: Path, entry: dict[str, Any], key: str) -> Any:
    if key not in entry:
        raise UserError(f"{path} has an entry without {key!r}: {str(entry)[:80]}.")
    return entry[key]


def _sentence_id(path: Path, sentence: dict[str, Any]) -> int:
    number = _field(path, sentence, "sen_id")
    if not isinstance(number, int):
        raise UserError(f"{path} has the sen_id {number!r}; it must be a whole number.")
    return number


def _some(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest

"""MSR-VTT's official JSON, which the mini dataset shares, and the id lists of its retrieval splits.

`train_val_videodatainfo.json` and `test_videodatainfo.json` hold `{"videos": [{"video_id", "category", "split"}],
"sentences": [{"sen_id", "video_id", "caption"}]}`; each clip is one mp4 file. The retrieval splits are lists of ids in
csv files by third parties.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.clip_table import ClipTableBuilder
from evlvideo.data.annotation.messages import shown
from evlvideo.data.annotation.packed_strings import PackedStringsBuilder
from evlvideo.data.annotation.readers.captions_by_clip import CaptionsByClip
from evlvideo.data.annotation.readers.fields import MOST, clip_name, media_file, needed, one_caption, topic
from evlvideo.data.annotation.readers.json_stream import stream_objects
from evlvideo.data.annotation.readers.text_files import NoAnnotationError, find_file, read_table
from evlvideo.data.annotation.readers.unique_ids import UniqueIds
from evlvideo.errors import UserError

WHOLE = "MSRVTT_data.json"
"""All splits in one file, as third parties hand it on; read if the official file is missing."""
RETRIEVAL_FILES = {
    "train_7k": "MSRVTT_train.7k.csv",
    "train_9k": "MSRVTT_train.9k.csv",
    "jsfusion": "MSRVTT_JSFUSION_test.csv",
}
"""The id list of each retrieval split: a column `video_id` and, in that of `jsfusion`, the query in `sentence`."""
TESTED = "jsfusion"
"""The retrieval split that papers report, 1k-A."""


def files(root: Path, split: str) -> tuple[Path, ...]:
    """Return the files of a split.

    Raises:
        UserError: one is missing.
    """
    if split in RETRIEVAL_FILES:
        official = dict.fromkeys(_annotation_file(root, part) for part in ("train_val", "test"))
        return (find_file(root, RETRIEVAL_FILES[split]), *official)
    return (_annotation_file(root, "test" if split == "test" else "train_val"),)


def read(root: Path, media_root: Path, split: str) -> Iterator[CaptionedClip]:
    """Read a captioning split, or a retrieval split from its id list.

    In `jsfusion`, the sentence of a clip is its only caption, since it is the query.

    Raises:
        UserError: a file is missing or malformed, a listed id is not a clip of the dataset, or a list for training
            names clips of `jsfusion`, if its list is there.
    """
    path, *official = files(root, split)
    if official:
        return _read_retrieval(root, split, path, official, media_root)
    return (clip for clip, of_split in read_official(path, media_root) if of_split == split)


def read_official(path: Path, media_root: Path) -> Iterator[tuple[CaptionedClip, str]]:
    """Read every clip of an official file, with its split.

    Raises:
        UserError: the file is malformed, or its two lists do not belong together.
    """
    videos, splits, captions = ClipTableBuilder(), PackedStringsBuilder(), CaptionsByClip()
    for key, place, entry in stream_objects(path, "videos", "sentences"):
        clip_id = clip_name(place, needed(place, entry, "video_id"))
        if key == "videos":
            videos.append(_video(place, entry, clip_id, media_root))
            splits.append(str(needed(place, entry, "split")))
        else:
            captions.add(clip_id, one_caption(place, needed(place, entry, "caption")), _sentence_id(place, entry))
    clips = videos.table()
    for clip, split, texts in zip(clips, splits.strings(), captions.of_clips(path, clips.ids), strict=True):
        yield CaptionedClip(clip.clip_id, clip.video, texts, clip.category, clip.evidence), split


def _video(place: str, entry: dict[str, Any], clip_id: str, media_root: Path) -> CaptionedClip:
    evidence = entry.get("evidence")
    if evidence is not None and not isinstance(evidence, str):
        raise UserError(f"{place}: the evidence is {shown(evidence)}; it is a string.")
    file = media_file(place, media_root, f"{clip_id}.mp4")
    return CaptionedClip(clip_id, file, (), category=topic(place, entry), evidence=evidence)


def read_queries(path: Path) -> Iterator[tuple[str, str]]:
    """Read the list of `jsfusion`: the id of each clip and its query.

    Raises:
        UserError: the file is missing or malformed, a clip is listed twice, or has no query.
    """
    return ((clip_id, query) for _, clip_id, query in _read_list(path, queries=True))


def _read_list(path: Path, *, queries: bool) -> Iterator[tuple[str, str, str]]:
    """Yield the place of each row, its clip and, if the list has some, its query."""
    ids = UniqueIds()
    columns = ("video_id", "sentence") if queries else ("video_id",)
    for place, (clip_id, *sentence) in read_table(path, columns):
        ids.add(place, clip_id)
        yield place, clip_id, one_caption(place, sentence[0]) if queries else ""
    ids.check()


def _read_retrieval(
    root: Path, split: str, path: Path, official: Sequence[Path], media_root: Path
) -> Iterator[CaptionedClip]:
    clips = {clip.clip_id: clip for file in official for clip, _ in read_official(file, media_root)}
    held_out = frozenset() if split == TESTED else _listed_if_there(root, TESTED)
    for place, clip_id, query in _read_list(path, queries=split == TESTED):
        if clip_id not in clips:
            raise UserError(f"{place}: {shown(clip_id)} is not a clip of the official annotation; get the list again.")
        if clip_id in held_out:
            raise UserError(
                f"{place}: {shown(clip_id)} is a clip of {RETRIEVAL_FILES[TESTED]}, on which retrieval is tested, and "
                f"cannot be trained on; get {path.name} again."
            )
        clip = clips[clip_id]
        yield replace(clip, captions=(query,)) if query else clip


def _listed_if_there(root: Path, split: str) -> frozenset[str]:
    try:
        path = find_file(root, RETRIEVAL_FILES[split])
    except NoAnnotationError:
        return frozenset()
    return frozenset(clip_id for _, clip_id, _ in _read_list(path, queries=False))


def _annotation_file(root: Path, part: str) -> Path:
    return find_file(root, f"{part}_videodatainfo.json", WHOLE)


def _sentence_id(place: str, sentence: dict[str, Any]) -> int:
    number = needed(place, sentence, "sen_id")
    if not isinstance(number, int) or not -MOST < number < MOST:
        raise UserError(f"{place}: the sen_id is {shown(number)}; it must be a whole number.")
    return number

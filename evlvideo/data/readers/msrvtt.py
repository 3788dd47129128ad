"""MSR-VTT's official JSON, which the mini data set shares, and the id lists of its retrieval splits.

`train_val_videodatainfo.json` and `test_videodatainfo.json` hold `{"videos": [{"video_id", "category", "split"}],
"sentences": [{"sen_id", "video_id", "caption"}]}`; each clip is one mp4 file. The retrieval splits are lists of ids in
csv files by third parties.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from evlvideo.data.captioned import CaptionedClip
from evlvideo.data.readers.common import (
    check_new,
    clip_name,
    find_file,
    json_entries,
    media_file,
    needed,
    one_caption,
    read_json_object,
    read_table,
    shown,
    some,
    topic,
)
from evlvideo.errors import UserError

RETRIEVAL_FILES = {
    "train_7k": "MSRVTT_train.7k.csv",
    "train_9k": "MSRVTT_train.9k.csv",
    "jsfusion": "MSRVTT_JSFUSION_test.csv",
}
"""The id list of each retrieval split: a column `video_id` and, in that of `jsfusion`, the query in `sentence`."""


def read(root: Path, media_root: Path, split: str) -> Iterable[CaptionedClip]:
    """Read a captioning split, or a retrieval split from its id list.

    Where a list names a sentence for each clip, that is the clip's only caption, since it is the query.

    Raises:
        UserError: a file is missing or malformed, or a listed id is not a clip of the data set.
    """
    if split in RETRIEVAL_FILES:
        return _read_retrieval(root, media_root, RETRIEVAL_FILES[split])
    path = _annotation_file(root, "test" if split == "test" else "train_val")
    return (clip for clip, of_split in read_official(path, media_root) if of_split == split)


def read_official(path: Path, media_root: Path) -> list[tuple[CaptionedClip, str]]:
    """Read every clip of an official file, with its split.

    Raises:
        UserError: the file is malformed, or its two lists do not belong together.
    """
    content = read_json_object(path)
    videos = list(json_entries(path, content, "videos"))
    ids = [clip_name(place, needed(place, video, "video_id")) for place, video in videos]
    sentences = sorted(json_entries(path, content, "sentences"), key=_sentence_id)
    captions = group_captions(path, ids, sentences, "video_id")
    return [
        (
            CaptionedClip(
                clip_id=clip_id,
                video=media_file(place, media_root, f"{clip_id}.mp4"),
                captions=tuple(captions[clip_id]),
                category=topic(place, video),
                evidence=video.get("evidence"),
            ),
            str(needed(place, video, "split")),
        )
        for clip_id, (place, video) in zip(ids, videos, strict=True)
    ]


def group_captions(
    path: Path, ids: list[str], sentences: Iterable[tuple[str, dict[str, Any]]], id_key: str
) -> dict[str, list[str]]:
    """Group captions by clip, and hold the two lists against each other.

    Raises:
        UserError: a clip is listed twice or has no captions, or a caption is malformed or of no listed clip.
    """
    captions: dict[str, list[str]] = {clip_id: [] for clip_id in ids}
    twice = [clip_id for clip_id, count in Counter(ids).items() if count > 1]
    if twice:
        raise UserError(f"{path} lists {some(twice)} more than once; get the file again.")
    unknown = []
    for place, sentence in sentences:
        clip_id = clip_name(place, needed(place, sentence, id_key))
        caption = one_caption(place, needed(place, sentence, "caption"))
        if clip_id in captions:
            captions[clip_id].append(caption)
        else:
            unknown.append(clip_id)
    if unknown:
        raise UserError(f"{path} has captions of {some(dict.fromkeys(unknown))}, not among its clips.")
    bare = [clip_id for clip_id in ids if not captions[clip_id]]
    if bare:
        raise UserError(f"{path} has no captions of {some(bare)}; every clip needs at least one.")
    return captions


def _read_retrieval(root: Path, media_root: Path, name: str) -> Iterator[CaptionedClip]:
    path = find_file(root, name)
    official = [read_official(_annotation_file(root, part), media_root) for part in ("train_val", "test")]
    clips = {clip.clip_id: clip for of_file in official for clip, _ in of_file}
    seen: set[str] = set()
    for place, (clip_id, sentence) in read_table(path, ("video_id",), optional=("sentence",)):
        check_new(place, clip_id, seen)
        if clip_id not in clips:
            raise UserError(f"{place}: {shown(clip_id)} is not a clip of the official annotation; get the list again.")
        clip = clips[clip_id]
        yield replace(clip, captions=(sentence,)) if sentence else clip


def _annotation_file(root: Path, part: str) -> Path:
    return find_file(root, f"{part}_videodatainfo.json")


def _sentence_id(placed: tuple[str, dict[str, Any]]) -> int:
    place, sentence = placed
    number = needed(place, sentence, "sen_id")
    if not isinstance(number, int):
        raise UserError(f"{place}: the sen_id is {shown(number)}; it must be a whole number.")
    return number

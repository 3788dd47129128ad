"""Annotation lists as LAVIS publishes them: one JSON file a split, such as `cap_train.json`, `coco_karpathy_val.json`.

A list of `{"image" or "video": relative path, "caption": string or list of strings, "image_id": optional}`. Training
lists have one entry for each caption, so entries of one file are one clip, with their captions in the list's order.
"""

import os
from array import array
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.clip_table import ClipTable, ClipTableBuilder
from evlvideo.data.annotation.messages import shown, some
from evlvideo.data.annotation.readers.fields import all_captions, clip_name, media_file, needed
from evlvideo.data.annotation.readers.json_stream import stream_list
from evlvideo.data.annotation.readers.text_files import NoAnnotationError
from evlvideo.errors import UserError

SUFFIXES = {"train": "train", "validate": "val", "test": "test"}
"""End of each split's file name, before `.json`."""


def files(root: Path, split: str) -> tuple[Path]:
    """Return the file of a split.

    Raises:
        UserError: there is no such file or more than one.
    """
    return (_find(root, SUFFIXES[split]),)


def read(root: Path, media_root: Path, split: str) -> Iterator[CaptionedClip]:
    """Read a split; a clip's id is its `image_id` or, without one, its path without the suffix.

    Raises:
        UserError: there is no such file or more than one, it is malformed, or ids and files do not belong together.
    """
    (path,) = files(root, split)
    builder = ClipTableBuilder()
    id_keys, file_keys = array("q"), array("q")
    for number, entry in enumerate(stream_list(path)):
        place = f"{path}, entry {number}"
        name = _name(place, entry)
        file = media_file(place, media_root, name)
        clip_id = clip_name(place, entry.get("image_id", name.removesuffix(file.suffix)))
        builder.append(CaptionedClip(clip_id, file, all_captions(place, needed(place, entry, "caption"))))
        id_keys.append(hash(clip_id))
        file_keys.append(hash(str(file)))
    entries = builder.table()
    firsts = _first_entries(path, media_root, entries, np.asarray(id_keys), np.asarray(file_keys))
    for _, of_clip in groupby(np.argsort(firsts, kind="stable").tolist(), key=firsts.__getitem__):
        clips = [entries[number] for number in of_clip]
        yield replace(clips[0], captions=tuple(text for clip in clips for text in clip.captions))


def _first_entries(path: Path, media_root: Path, entries: ClipTable, ids: np.ndarray, files: np.ndarray) -> np.ndarray:
    """Return the index of the first entry of each entry's clip. Compares 64-bit hashes of ids and files."""
    of_ids, of_files = _first_places(ids), _first_places(files)
    odd = np.flatnonzero((files != files[of_ids]) | (ids != ids[of_files]))
    if len(odd):
        clip = entries[int(odd[0])]
        raise UserError(
            f"{path}, entry {odd[0]}: {shown(clip.clip_id)} with the file "
            f"{shown(os.path.relpath(clip.video, media_root))} is at odds with an earlier entry; one file has one id."
        )
    return of_ids


def _first_places(values: np.ndarray) -> np.ndarray:
    _, firsts, inverse = np.unique(values, return_index=True, return_inverse=True)
    return firsts[inverse]


def _find(root: Path, suffix: str) -> Path:
    if not root.is_dir():
        raise UserError(f"The data root {root} is not a directory; set data.root to the one that holds the dataset.")
    found = [
        path
        for directory in (root, root / "annotations")
        for pattern in (f"{suffix}.json", f"*_{suffix}.json")
        for path in sorted(directory.glob(pattern))
        if not path.name.startswith(".")
    ]
    if not found:
        raise NoAnnotationError(f"There is no *_{suffix}.json in {root} or {root / 'annotations'}; put the list there.")
    if len(found) > 1:
        names = some(str(path) for path in found)
        raise UserError(f"{len(found)} lists fit the split: {names}; keep one dataset in a root.")
    return found[0]


def _name(place: str, entry: Any) -> Any:
    if not isinstance(entry, dict) or len(entry.keys() & {"image", "video"}) != 1:
        raise UserError(f"{place} is {shown(entry)}; it must be an object with either 'image' or 'video'.")
    return entry["video"] if "video" in entry else entry["image"]

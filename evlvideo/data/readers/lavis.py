"""Annotation lists as LAVIS publishes them: one JSON file a split, such as `cap_train.json`, `coco_karpathy_val.json`.

A list of `{"image" or "video": relative path, "caption": string or list of strings, "image_id": optional}`. Training
lists have one entry for each caption, so entries of one file are one clip, with their captions in the list's order.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from evlvideo.data.captioned import CaptionedClip
from evlvideo.data.readers.common import NoAnnotationError, all_captions, clip_name, media_file, needed, shown, some
from evlvideo.errors import UserError
from evlvideo.files import read_json

SUFFIXES = {"train": "train", "validate": "val", "test": "test"}
"""How the file of each split ends, before `.json`."""


def read(root: Path, media_root: Path, split: str) -> Iterable[CaptionedClip]:
    """Read a split; a clip's id is its `image_id` or, without one, its path without the suffix.

    Raises:
        UserError: there is no such file or more than one, it is malformed, or ids and files do not belong together.
    """
    path = _find(root, SUFFIXES[split])
    entries = read_json(path)
    if not isinstance(entries, list):
        raise UserError(f"{path} holds a JSON {type(entries).__name__}; a list of entries is needed.")
    captions: dict[str, list[str]] = {}
    files: dict[str, Path] = {}
    ids: dict[Path, str] = {}
    for number, entry in enumerate(entries):
        place = f"{path}, entry {number}"
        name = _name(place, entry)
        file = media_file(place, media_root, name)
        clip_id = clip_name(place, entry.get("image_id", name.removesuffix(file.suffix)))
        if files.setdefault(clip_id, file) != file or ids.setdefault(file, clip_id) != clip_id:
            raise UserError(
                f"{place}: {shown(clip_id)} with the file {shown(name)} is at odds with an earlier entry; "
                "one file has one id."
            )
        captions.setdefault(clip_id, []).extend(all_captions(place, needed(place, entry, "caption")))
    return [CaptionedClip(clip_id, files[clip_id], tuple(texts)) for clip_id, texts in captions.items()]


def _find(root: Path, suffix: str) -> Path:
    if not root.is_dir():
        raise UserError(f"The data root {root} is not a directory; set data.root to the one that holds the data set.")
    found = [
        path
        for directory in (root, root / "annotations")
        for pattern in (f"{suffix}.json", f"*_{suffix}.json")
        for path in sorted(directory.glob(pattern))
    ]
    if not found:
        raise NoAnnotationError(f"There is no *_{suffix}.json in {root} or {root / 'annotations'}; put the list there.")
    if len(found) > 1:
        names = some(str(path) for path in found)
        raise UserError(f"{len(found)} lists fit the split: {names}; keep one data set in a root.")
    return found[0]


def _name(place: str, entry: Any) -> Any:
    if not isinstance(entry, dict) or len(entry.keys() & {"image", "video"}) != 1:
        raise UserError(f"{place} is {shown(entry)}; it must be an object with either 'image' or 'video'.")
    return entry["video"] if "video" in entry else entry["image"]

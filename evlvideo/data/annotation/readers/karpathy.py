"""Karpathy's splits of COCO and Flickr30k: `dataset_coco.json` and `dataset_flickr30k.json`.

They hold `{"images": [{"split", "filepath", "filename", "cocoid", "sentences": [{"raw"}]}]}`; Flickr30k's have neither
`filepath` nor `cocoid`. COCO's `restval`, the images of val2014 that are in neither `val` nor `test`, is trained on.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.messages import shown
from evlvideo.data.annotation.readers.fields import clip_name, media_file, needed, one_caption
from evlvideo.data.annotation.readers.json_stream import stream_objects
from evlvideo.data.annotation.readers.text_files import find_file
from evlvideo.data.annotation.readers.unique_ids import UniqueIds
from evlvideo.errors import UserError

COCO, FLICKR30K = "dataset_coco.json", "dataset_flickr30k.json"
SPLITS = {"train": "train", "restval": "train", "val": "validate", "test": "test"}
"""Our split for each split in the file."""


def files(root: Path, split: str, *, name: str) -> tuple[Path]:
    """Return the file of a split, which is called `name`.

    Raises:
        UserError: it is missing.
    """
    return (find_file(root, name),)


def read(root: Path, media_root: Path, split: str, *, name: str) -> Iterator[CaptionedClip]:
    """Read a split of the file `name`; a clip's id is the image's in COCO or, in Flickr30k, its file's without suffix.

    Raises:
        UserError: the file is missing or malformed, or an image is listed twice.
    """
    ids = UniqueIds()
    for _, place, image in stream_objects(*files(root, split, name=name), "images"):
        of_split = needed(place, image, "split")
        if of_split not in SPLITS:
            raise UserError(f"{place}: the split is {shown(of_split)}; allowed: {', '.join(SPLITS)}.")
        if SPLITS[of_split] == split:
            clip = _clip(place, image, media_root)
            ids.add(place, clip.clip_id)
            yield clip
    ids.check()


def _clip(place: str, image: dict[str, Any], media_root: Path) -> CaptionedClip:
    name, folder = needed(place, image, "filename"), image.get("filepath")
    path = media_file(place, media_root, f"{folder}/{name}" if folder and isinstance(name, str) else name)
    sentences = needed(place, image, "sentences")
    if not isinstance(sentences, list) or not sentences or not all(isinstance(entry, dict) for entry in sentences):
        raise UserError(f"{place} has no list of sentences; get the file again.")
    return CaptionedClip(
        clip_id=clip_name(place, image.get("cocoid", path.stem)),
        video=path,
        captions=tuple(one_caption(place, needed(place, sentence, "raw")) for sentence in sentences),
    )

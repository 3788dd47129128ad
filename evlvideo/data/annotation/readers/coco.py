"""COCO's own annotation: `captions_train2017.json`, `captions_val2017.json`, and those of 2014.

They hold `{"images": [{"id", "file_name"}], "annotations": [{"id", "image_id", "caption"}]}`. An image lies in the
folder of its part: `train2017/000000391895.jpg`.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.clip_table import ClipTableBuilder
from evlvideo.data.annotation.readers.captions_by_clip import CaptionsByClip
from evlvideo.data.annotation.readers.fields import clip_name, media_file, needed, one_caption
from evlvideo.data.annotation.readers.json_stream import stream_objects
from evlvideo.data.annotation.readers.text_files import find_file

PARTS = {"train": "train", "validate": "val"}
"""COCO's name of each split."""


def files(root: Path, split: str, *, year: int) -> tuple[Path]:
    """Return the file of a split.

    Raises:
        UserError: it is missing.
    """
    return (find_file(root, f"captions_{PARTS[split]}{year}.json"),)


def read(root: Path, media_root: Path, split: str, *, year: int) -> Iterator[CaptionedClip]:
    """Read a split.

    Raises:
        UserError: the file is missing or malformed, an image is listed twice, or its two lists do not belong together.
    """
    (path,) = files(root, split, year=year)
    images, captions = ClipTableBuilder(), CaptionsByClip()
    folder = f"{PARTS[split]}{year}"
    for key, place, entry in stream_objects(path, "images", "annotations"):
        if key == "images":
            name = needed(place, entry, "file_name")
            file = media_file(place, media_root, f"{folder}/{name}" if isinstance(name, str) else name)
            images.append(CaptionedClip(clip_name(place, needed(place, entry, "id")), file, ()))
        else:
            image_id = clip_name(place, needed(place, entry, "image_id"))
            captions.add(image_id, one_caption(place, needed(place, entry, "caption")))
    table = images.table()
    for image, texts in zip(table, captions.of_clips(path, table.ids), strict=True):
        yield replace(image, captions=texts)

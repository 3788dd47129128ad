"""Annotations in COCO's form: `captions_train2017.json` and its like, and those of NoCaps.

They hold `{"images": [{"id", "file_name"}], "annotations": [{"id", "image_id", "caption"}]}`. An image lies in the
folder of its part: `train2017/000000391895.jpg`.

NoCaps has `nocaps_val_4500_captions.json` and, without captions, which only the server has,
`nocaps_test_image_info.json`. Images have a `domain`; they lie in the folder `val` or `test`, or beside each other.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.clip_table import ClipTableBuilder
from evlvideo.data.annotation.messages import shown
from evlvideo.data.annotation.readers.captions_by_clip import CaptionsByClip
from evlvideo.data.annotation.readers.fields import clip_name, media_file, needed, one_caption
from evlvideo.data.annotation.readers.json_stream import stream_objects
from evlvideo.data.annotation.readers.text_files import find_file
from evlvideo.errors import UserError

PARTS = {"train": "train", "validate": "val"}
"""COCO's name of each split."""
NOCAPS_FILES = {"validate": "nocaps_val_4500_captions.json", "test": "nocaps_test_image_info.json"}
DOMAINS = ("in-domain", "near-domain", "out-domain")
"""NoCaps' classes of images: with objects of COCO alone, of COCO and others, and of others alone."""


def files(root: Path, split: str, *, year: int) -> tuple[Path]:
    """Return the file of a split of COCO.

    Raises:
        UserError: it is missing.
    """
    return (find_file(root, f"captions_{PARTS[split]}{year}.json"),)


def nocaps_files(root: Path, split: str) -> tuple[Path]:
    """Return the file of a split of NoCaps.

    Raises:
        UserError: it is missing.
    """
    return (find_file(root, NOCAPS_FILES[split]),)


def read(root: Path, media_root: Path, split: str, *, year: int) -> Iterator[CaptionedClip]:
    """Read a split of COCO.

    Raises:
        UserError: the file is missing or malformed, an image is listed twice, or its two lists do not belong together.
    """
    (path,) = files(root, split, year=year)
    folder = f"{PARTS[split]}{year}/"
    return _read(path, lambda place, entry: _image(place, entry, media_root, folder))


def read_nocaps(root: Path, media_root: Path, split: str) -> Iterator[CaptionedClip]:
    """Read a split of NoCaps. The images of `test` have no captions.

    Raises:
        UserError: as :func:`read`; or an image has no number, or an unknown domain.
    """
    (path,) = nocaps_files(root, split)
    part = "val" if split == "validate" else "test"
    folder = f"{part}/" if (media_root / part).is_dir() else ""

    def image(place: str, entry: dict[str, Any]) -> CaptionedClip:
        return replace(_image(place, entry, media_root, folder), evidence=_domain(place, entry))

    return _read(path, image, captioned=split != "test")


def _read(
    path: Path, image_of: Callable[[str, dict[str, Any]], CaptionedClip], *, captioned: bool = True
) -> Iterator[CaptionedClip]:
    images, captions = ClipTableBuilder(), CaptionsByClip(required=captioned)
    for key, place, entry in stream_objects(path, "images", *(["annotations"] if captioned else [])):
        if key == "images":
            images.append(image_of(place, entry))
        else:
            image_id = clip_name(place, needed(place, entry, "image_id"))
            captions.add(image_id, one_caption(place, needed(place, entry, "caption")))
    table = images.table()
    for image, texts in zip(table, captions.of_clips(path, table.ids), strict=True):
        yield replace(image, captions=texts)


def _image(place: str, entry: dict[str, Any], media_root: Path, folder: str) -> CaptionedClip:
    name = needed(place, entry, "file_name")
    file = media_file(place, media_root, folder + name if isinstance(name, str) else name)
    return CaptionedClip(clip_name(place, needed(place, entry, "id")), file, ())


def _domain(place: str, entry: dict[str, Any]) -> str | None:
    """Return the domain of an image of NoCaps. The first edition of the files has none."""
    if not isinstance(entry["id"], int):
        raise UserError(f"{place}: the image id is {shown(entry['id'])}; NoCaps and its server number images.")
    domain = entry.get("domain")
    if domain is None or domain in DOMAINS:
        return domain
    raise UserError(f"{place}: the domain is {shown(domain)}; allowed: {', '.join(DOMAINS)}.")

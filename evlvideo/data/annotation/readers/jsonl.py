"""Our own format, for users' data: `captions.jsonl`, one clip a line.

    {"video": "clips/a.mp4", "captions": ["a dog runs"], "split": "train", "start_seconds": 2.5, "end_seconds": 7}
    {"image": "b.jpg", "captions": ["a cat", "a cat sleeps"], "split": "validate", "category": 3, "id": "b"}

`video` or `image`, `captions` and `split` are required, the rest is optional. Paths are relative to the media root. A
clip without an `id` gets its path without the suffix and, if given, its times: `clips/a_2.5_7.0`. A clip may have a
line for each caption, one after the other. Lines of `evlvideo caption --out` also have `generated`: the `model` that
made the captions, its `weights`, and more. Lines of `evlvideo data filter` have `filtered`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.messages import shown
from evlvideo.data.annotation.readers.fields import (
    all_captions,
    check_keys,
    clip_name,
    media_file,
    needed,
    seconds,
    topic,
)
from evlvideo.data.annotation.readers.text_files import find_file, read_json_lines
from evlvideo.data.annotation.readers.unique_ids import joined
from evlvideo.errors import UserError

FILE = "captions.jsonl"
SPLITS = ("train", "validate", "test")
_TIMES = ("start_seconds", "end_seconds")
KEYS = ("video", "image", "captions", "split", *_TIMES, "category", "id", "generated", "filtered")


def files(root: Path, split: str) -> tuple[Path]:
    """Return the file of a split.

    Raises:
        UserError: it is missing.
    """
    return (find_file(root, FILE),)


def read(root: Path, media_root: Path, split: str) -> Iterator[CaptionedClip]:
    """Stream a split. Check every line, also those of other splits. Join the captions of a clip on neighboring lines.

    Raises:
        UserError: the file is missing, a line is malformed, or an id occurs twice in the split otherwise.
    """
    lines = read_json_lines(*files(root, split))
    clips = ((place, clip_of(place, entry, media_root), entry["split"]) for place, entry in lines)
    return joined((place, clip) for place, clip, of_split in clips if of_split == split)


def clip_of(place: str, entry: dict[str, Any], media_root: Path) -> CaptionedClip:
    """Read the clip of a line.

    Raises:
        UserError: the line is malformed.
    """
    check_keys(place, entry, KEYS, SPLITS)
    name = entry["video"] if "video" in entry else entry["image"]
    file = media_file(place, media_root, name)
    start, end = seconds(place, entry)
    if "image" in entry and (start is not None or end is not None):
        raise UserError(f"{place}: an image has no start_seconds or end_seconds; remove them.")
    times = "" if start is None and end is None else f"_{start or 0.0}_{'end' if end is None else end}"
    return CaptionedClip(
        clip_id=clip_name(place, entry.get("id", name.removesuffix(file.suffix) + times)),
        video=file,
        captions=all_captions(place, needed(place, entry, "captions")),
        category=topic(place, entry),
        start_seconds=start,
        end_seconds=end,
        generated_by=_generated_by(place, entry),
    )


def _generated_by(place: str, entry: dict[str, Any]) -> str | None:
    """Name the model that made the captions of an entry, with the digest of its weights; None for people."""
    made = entry.get("generated")
    if made is None:
        return None
    if not isinstance(made, dict) or not isinstance(made.get("model"), str):
        raise UserError(f"{place}: generated is {shown(made)}; it must name the 'model'.")
    weights = f" ({made['weights']})" if "weights" in made else ""
    return f"{made['model']}{weights}"

"""Read and write files of captions: pairs of a clip id and a caption.

    [{"image_id": "video7010", "caption": "a man runs"}, …]    ours, and COCO's results, where ids are numbers
    {"video7010": "a man runs", …}
    image_id,caption                                           a csv file with a header, ending in .csv

`video_id` and `id` are read like `image_id`.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evlvideo.errors import UserError, first_ten
from evlvideo.files import read_json, write_json

ID_KEYS = ("image_id", "video_id", "id")
"""Keys of the id; the first one found is used."""

_FORM = 'expected a list of {"image_id": …, "caption": …}, or {id: caption}, or a .csv file with image_id,caption'


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Read captions in the order of the file, with repeated ids.

    Raises:
        UserError: the file cannot be read or has another form.
    """
    if path.suffix.lower() == ".csv":
        return list(_csv_pairs(path))
    content = read_json(path)
    pairs: list[tuple[Any, Any]]
    if isinstance(content, dict):
        # Read again as pairs, since a dictionary hides repeated keys.
        pairs = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=list)
    elif isinstance(content, list):
        pairs = [_pair(entry, f"{path}, entry {number}") for number, entry in enumerate(content)]
    else:
        raise UserError(f"{path} holds neither a list nor a mapping; {_FORM}.")
    for clip_id, caption in pairs:
        if not isinstance(caption, str):
            raise UserError(f"{path}: the caption of {clip_id!r} is {str(caption)[:80]}, not text; {_FORM}.")
    return [(_id(path, clip_id), caption) for clip_id, caption in pairs]


def _csv_pairs(path: Path) -> Iterator[tuple[str, str]]:
    from evlvideo.data.annotation.readers.text_files import read_table

    for place, (caption, *ids) in read_table(path, ("caption",), optional=ID_KEYS):
        clip_id = next((clip_id.strip() for clip_id in ids if clip_id.strip()), None)
        if clip_id is None:
            raise UserError(f"{place}: there is no id in {', '.join(ID_KEYS)}; {_FORM}.")
        yield clip_id, caption


def _pair(entry: Any, where: str) -> tuple[Any, Any]:
    if isinstance(entry, dict):
        key = next((key for key in ID_KEYS if key in entry), None)
        if key is not None and "caption" in entry:
            return entry[key], entry["caption"]
    raise UserError(f"{where} is {str(entry)[:80]!r}; {_FORM}.")


def _id(path: Path, clip_id: Any) -> str:
    """Return an id as text. A whole number that a table wrote as 7010.0 is 7010."""
    if isinstance(clip_id, bool) or not isinstance(clip_id, str | int | float):
        raise UserError(f"{path}: an id is {str(clip_id)[:80]!r}; it must be text or a number.")
    if isinstance(clip_id, float) and clip_id.is_integer():
        return str(int(clip_id))
    return str(clip_id)


def read_predictions(path: Path) -> dict[str, str]:
    """Read captions from a file of any of the forms in :mod:`evlvideo.results.prediction_files`.

    Raises:
        UserError: the file cannot be read, has another form, or has several captions for a clip (clips are listed).
    """
    pairs = read_pairs(path)
    repeated = [(clip_id, count) for clip_id, count in Counter(clip_id for clip_id, _ in pairs).items() if count > 1]
    if repeated:
        listed = first_ten([f"{clip_id} ({count})" for clip_id, count in repeated])
        raise UserError(f"{path} has more than one caption for {len(repeated)} clips: {listed}. Keep one for each.")
    return dict(pairs)


def write_predictions(path: Path, predictions: Mapping[str, str]) -> None:
    """Write captions as `[{"image_id": …, "caption": …}]`, whole or not at all."""
    write_json(path, [{"image_id": clip_id, "caption": caption} for clip_id, caption in predictions.items()])

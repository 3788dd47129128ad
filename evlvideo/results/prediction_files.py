"""Read and write files of predictions: one caption for each clip."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from evlvideo.data.annotation.caption_files import read_pairs
from evlvideo.errors import UserError, first_ten
from evlvideo.files import write_json


def read_predictions(path: Path) -> dict[str, str]:
    """Read captions from a file of any of the forms in :mod:`evlvideo.data.annotation.caption_files`.

    Raises:
        UserError: the file cannot be read, has another form, or has several captions for a clip (clips are listed).
    """
    pairs = read_pairs(path)
    repeated = [(clip_id, count) for clip_id, count in Counter(clip_id for clip_id, _ in pairs).items() if count > 1]
    if repeated:
        listed = first_ten([f"{clip_id} ({count})" for clip_id, count in repeated])
        raise UserError(f"{path} has more than one caption for {len(repeated)} clips: {listed}. Keep one for each.")
    return dict(pairs)


def write_submission(path: Path, predictions: Mapping[str, str]) -> None:
    """Write captions as servers of image captions take them: as :func:`write_predictions`, with numbers as ids.

    Raises:
        UserError: an id is not a whole number.
    """
    if strange := [clip_id for clip_id in predictions if not clip_id.isdecimal()]:
        raise UserError(f"The server numbers images, and these ids are no numbers: {first_ten(strange)}.")
    write_json(path, [{"image_id": int(clip_id), "caption": caption} for clip_id, caption in predictions.items()])


def write_predictions(path: Path, predictions: Mapping[str, str]) -> None:
    """Write captions as `[{"image_id": …, "caption": …}]`, whole or not at all."""
    write_json(path, [{"image_id": clip_id, "caption": caption} for clip_id, caption in predictions.items()])

"""VATEX: one JSON list a split, `[{"videoID", "enCap": [caption, …], "chCap": [caption, …]}]`, as published.

The public test split has English captions only. A clip is cut already: the file `<videoID>.mp4`, or with another suffix
of a video, as downloads have it.
"""

from collections.abc import Iterator
from pathlib import Path

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.messages import shown
from evlvideo.data.annotation.readers.fields import all_captions, clip_name, needed, video_of
from evlvideo.data.annotation.readers.json_stream import stream_list
from evlvideo.data.annotation.readers.text_files import find_file
from evlvideo.data.annotation.readers.unique_ids import UniqueIds
from evlvideo.errors import UserError

FILES = {
    "train": "vatex_training_v1.0.json",
    "validate": "vatex_validation_v1.0.json",
    "test": "vatex_public_test_english_v1.1.json",
}
"""The file of each split."""
ENGLISH, CHINESE = "enCap", "chCap"


def files(root: Path, split: str) -> tuple[Path]:
    """Return the file of a split.

    Raises:
        UserError: it is missing.
    """
    return (find_file(root, FILES[split]),)


def read(root: Path, media_root: Path, split: str, *, language: str) -> Iterator[CaptionedClip]:
    """Stream a split, with the captions of one language.

    Raises:
        UserError: the file is missing or malformed, a clip is listed twice, or it has no captions in the language.
    """
    ids = UniqueIds()
    (path,) = files(root, split)
    for number, entry in enumerate(stream_list(path)):
        place = f"{path}, entry {number}"
        if not isinstance(entry, dict):
            raise UserError(f"{place} is {shown(entry)}; it must be an object with 'videoID' and {language!r}.")
        clip_id = clip_name(place, needed(place, entry, "videoID"))
        ids.add(place, clip_id)
        captions = all_captions(place, needed(place, entry, language))
        yield CaptionedClip(clip_id, video_of(place, media_root, clip_id, ".mp4"), captions)
    ids.check()

"""MSVD: one text file of descriptions, and one list of ids for each split.

`AllVideoDescriptions.txt` has lines `<id> <caption>`, where the id is `<YouTube id>_<start>_<end>`, and comments that
begin with `#`; `train_list.txt`, `val_list.txt` and `test_list.txt` have one id a line, with or without a suffix. Each
clip is cut already: the file `<id>.avi`, or with another suffix of a video, as copies have it.
"""

from collections.abc import Iterator
from pathlib import Path

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.messages import shown
from evlvideo.data.annotation.readers.fields import VIDEO_SUFFIXES, clip_name, one_caption, video_of
from evlvideo.data.annotation.readers.text_files import find_file, read_lines
from evlvideo.data.annotation.readers.unique_ids import UniqueIds
from evlvideo.errors import UserError

LISTS = {"train": "train_list.txt", "validate": "val_list.txt", "test": "test_list.txt"}
"""The id list of each split."""
DESCRIPTIONS = "AllVideoDescriptions.txt"


def files(root: Path, split: str) -> tuple[Path, Path]:
    """Return the files of a split: its list, and the descriptions.

    Raises:
        UserError: one is missing.
    """
    return find_file(root, LISTS[split]), find_file(root, DESCRIPTIONS)


def read(root: Path, media_root: Path, split: str) -> Iterator[CaptionedClip]:
    """Read a split. Skip descriptions of clips on no list.

    Raises:
        UserError: a file is missing or malformed, an id is listed twice, or a listed clip has no description.
    """
    path, descriptions = files(root, split)
    captions = read_descriptions(descriptions)
    ids = UniqueIds()
    for number, line in read_lines(path):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        clip_id = clip_name(place, _without_suffix(line.strip()))
        ids.add(place, clip_id)
        if clip_id not in captions:
            raise UserError(f"{place}: {descriptions} has no description of {shown(clip_id)}; get both files again.")
        yield CaptionedClip(clip_id, video_of(place, media_root, clip_id, ".avi"), tuple(captions[clip_id]))
    ids.check()


def _without_suffix(name: str) -> str:
    suffix = next((suffix for suffix in VIDEO_SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def read_descriptions(path: Path) -> dict[str, list[str]]:
    """Read the captions of every clip.

    Raises:
        UserError: the file cannot be read, or a line has no caption.
    """
    captions: dict[str, list[str]] = {}
    for number, line in read_lines(path):
        if not line.strip() or line.startswith("#"):
            continue
        clip_id, _, caption = line.strip().partition(" ")
        captions.setdefault(clip_id, []).append(one_caption(f"{path}, line {number}", caption.strip()))
    return captions

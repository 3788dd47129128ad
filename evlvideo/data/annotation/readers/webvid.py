"""WebVid's csv files: `videoid,contentUrl,duration,page_dir,name`, one row for each video and caption.

The video of a row is the file `<page_dir>/<videoid>.mp4`; rows without a `page_dir` have `<videoid>.mp4`.
"""

from collections.abc import Iterator
from pathlib import Path

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.readers.fields import clip_name, media_file, one_caption
from evlvideo.data.annotation.readers.text_files import find_file, read_table
from evlvideo.data.annotation.readers.unique_ids import joined

FILES = {
    "train": ("results_2M_train.csv", "results_10M_train.csv"),
    "validate": ("results_2M_val.csv", "results_10M_val.csv"),
}
"""The CSV file of each split: the first that exists."""
_NO_PAGE = ("", "nan")
"""No `page_dir`: empty, or as programs write a missing value."""


def files(root: Path, split: str) -> tuple[Path]:
    """Return the file of a split.

    Raises:
        UserError: it is missing.
    """
    return (find_file(root, *FILES[split]),)


def read(root: Path, media_root: Path, split: str) -> Iterator[CaptionedClip]:
    """Stream a split. Join the captions of a video on neighboring rows.

    Raises:
        UserError: the file is missing or malformed, a video is listed twice otherwise, or a row has no caption.
    """
    return joined(_clips(*files(root, split), media_root))


def _clips(path: Path, media_root: Path) -> Iterator[tuple[str, CaptionedClip]]:
    for place, (video_id, page, caption) in read_table(path, ("videoid", "page_dir", "name")):
        clip_id = clip_name(place, video_id)
        name = f"{clip_id}.mp4" if page in _NO_PAGE else f"{page}/{clip_id}.mp4"
        yield place, CaptionedClip(clip_id, media_file(place, media_root, name), (one_caption(place, caption),))

"""WebVid's csv files: `videoid,contentUrl,duration,page_dir,name`, one row and one caption for each video.

The video of a row is the file `<page_dir>/<videoid>.mp4`; rows without a `page_dir` have `<videoid>.mp4`.
"""

from collections.abc import Iterator
from pathlib import Path

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.readers.fields import clip_name, media_file, one_caption
from evlvideo.data.annotation.readers.text_files import find_file, read_table
from evlvideo.data.annotation.readers.unique_ids import UniqueIds

FILES = {
    "train": ("results_2M_train.csv", "results_10M_train.csv"),
    "validate": ("results_2M_val.csv", "results_10M_val.csv"),
}
"""The csv file of each split: the first that is there."""


def files(root: Path, split: str) -> tuple[Path]:
    """Name the file that a split is read from.

    Raises:
        UserError: it is missing.
    """
    return (find_file(root, *FILES[split]),)


def read(root: Path, media_root: Path, split: str) -> Iterator[CaptionedClip]:
    """Stream a split.

    Raises:
        UserError: the file is missing or malformed, a video is listed twice, or a row has no caption.
    """
    ids = UniqueIds()
    for place, (video_id, page, caption) in read_table(*files(root, split), ("videoid", "page_dir", "name")):
        clip_id = clip_name(place, video_id)
        ids.add(place, clip_id)
        name = f"{page}/{clip_id}.mp4" if page else f"{clip_id}.mp4"
        yield CaptionedClip(clip_id, media_file(place, media_root, name), (one_caption(place, caption),))
    ids.check()

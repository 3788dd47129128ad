"""MSRVTT-QA and MSVD-QA: one JSON list a split, `test_qa.json` or, as LAVIS calls it, `qa_test.json`.

`[{"video_id": number, "question", "answer", "id"}]` as published, `[{"video": file, "question", "answer"}]` elsewhere.
MSVD-QA numbers its clips; `youtube_mapping.txt` has a line `<clip id> vid<number>` for each.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from evlvideo.data.annotation.messages import shown
from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions.fields import answer_text, opening, question_name, question_text
from evlvideo.data.annotation.readers.fields import clip_name, media_file, needed, video_of
from evlvideo.data.annotation.readers.json_stream import stream_list
from evlvideo.data.annotation.readers.text_files import NoAnnotationError, find_file, read_lines
from evlvideo.errors import UserError

PARTS = {"train": "train", "validate": "val", "test": "test"}
"""Name of each split in file names."""
MAPPING = "youtube_mapping.txt"

Namer = Callable[[Any], str]
"""Returns the clip id of a `video_id`."""


def read_msrvtt(root: Path, media_root: Path, split: str) -> Iterator[Question]:
    """Read a split of MSRVTT-QA.

    Raises:
        UserError: the file is missing or malformed.
    """
    return _read(root, media_root, split, "video{}".format, ".mp4")


def read_msvd(root: Path, media_root: Path, split: str) -> Iterator[Question]:
    """Read a split of MSVD-QA. Without the mapping, clips keep their numbers: `vid1301`.

    Raises:
        UserError: a file is missing or malformed, or the mapping lacks a clip.
    """
    try:
        names = _mapping(find_file(root, MAPPING))
    except NoAnnotationError:
        return _read(root, media_root, split, "vid{}".format, ".avi")
    return _read(root, media_root, split, lambda number: names.get(f"vid{number}", ""), ".avi")


def _read(root: Path, media_root: Path, split: str, name_of: Namer, suffix: str) -> Iterator[Question]:
    part = PARTS[split]
    path = find_file(root, f"{part}_qa.json", f"qa_{part}.json")
    # Each clip has many questions.
    file_of = cache(lambda place, clip_id: video_of(place, media_root, clip_id, suffix))
    for number, entry in enumerate(stream_list(path)):
        place = f"{path}, entry {number}"
        if not isinstance(entry, dict):
            raise UserError(f"{place} is {shown(entry)}; it must be an object with 'question' and 'answer'.")
        if "video" in entry:
            file = media_file(place, media_root, entry["video"])
            clip_id = clip_name(place, file.stem)
        else:
            clip_id = _clip_id(place, needed(place, entry, "video_id"), name_of)
            file = file_of(str(path), clip_id)
        text = question_text(place, entry)
        yield Question(
            question_id=question_name(place, entry.get("id", entry.get("question_id", number))),
            clip_id=clip_id,
            text=text,
            video=file,
            answers=(answer_text(place, needed(place, entry, "answer")),),
            question_type=opening(text),
        )


def _clip_id(place: str, value: Any, name_of: Namer) -> str:
    """Return the clip of a `video_id`: a number or, in some copies, already a name."""
    number = clip_name(place, value)
    if not number.isdecimal():
        return number
    clip_id = name_of(number)
    if not clip_id:
        raise UserError(f"{place}: {MAPPING} has no line for vid{number}; get both files again.")
    return clip_id


def _mapping(path: Path) -> Mapping[str, str]:
    names: dict[str, str] = {}
    for number, line in read_lines(path):
        words = line.split()
        if len(words) not in (0, 2):
            raise UserError(f"{path}, line {number} is {shown(line)}; it must be `<clip id> vid<number>`.")
        if words:
            names[words[1]] = words[0]
    return names

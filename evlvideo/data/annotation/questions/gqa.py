"""GQA's balanced questions, as published, or as LAVIS hands them on.

Published: `{id: {"question", "imageId", "answer", "types": {"structural"}}}`, the image is `<imageId>.jpg`. LAVIS: a
list of `{"question_id", "question", "image", "answer"}` without types. All questions, of which the balanced ones are a
part, are another set, whose scores do not compare.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evlvideo.data.annotation.messages import shown
from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions.fields import answer_text, question_name, question_text
from evlvideo.data.annotation.readers.fields import clip_name, media_file, needed
from evlvideo.data.annotation.readers.json_stream import is_list, stream_list, stream_members
from evlvideo.data.annotation.readers.text_files import find_file
from evlvideo.errors import UserError

PARTS = {"train": "train", "validate": "val", "test_dev": "testdev"}
"""GQA's name of each split."""
OPEN_STRUCTURE = "query"
"""The structure of open questions; those of all others name the answers, or are answered with yes or no."""


def read(root: Path, media_root: Path, split: str) -> Iterator[Question]:
    """Read a split.

    Raises:
        UserError: the file is missing or malformed.
    """
    name = f"{PARTS[split]}_balanced_questions.json"
    path = find_file(root, name, f"questions1.2/{name}", f"questions/{name}")
    if is_list(path):
        for number, entry in enumerate(stream_list(path)):
            yield _of_list(f"{path}, entry {number}", entry, media_root)
        return
    for question_id, entry in stream_members(path):
        yield _published(f"{path}, question {shown(question_id)}", question_id, entry, media_root)


def _published(place: str, question_id: str, entry: Any, media_root: Path) -> Question:
    if not isinstance(entry, dict):
        raise UserError(f"{place} is {shown(entry)}; it must be an object with 'question', 'imageId' and 'answer'.")
    clip_id = clip_name(place, needed(place, entry, "imageId"))
    types = entry.get("types")
    structure = types.get("structural") if isinstance(types, dict) else None
    kind = None if structure is None else "open" if structure == OPEN_STRUCTURE else "binary"
    return Question(
        question_id=question_name(place, question_id),
        clip_id=clip_id,
        text=question_text(place, entry),
        video=media_file(place, media_root, f"{clip_id}.jpg"),
        answers=(answer_text(place, needed(place, entry, "answer")),),
        answer_type=kind,
        question_type=structure,
    )


def _of_list(place: str, entry: Any, media_root: Path) -> Question:
    if not isinstance(entry, dict):
        raise UserError(f"{place} is {shown(entry)}; it must be an object with 'question', 'image' and 'answer'.")
    file = media_file(place, media_root, needed(place, entry, "image"))
    return Question(
        question_id=question_name(place, needed(place, entry, "question_id")),
        clip_id=file.stem,
        text=question_text(place, entry),
        video=file,
        answers=(answer_text(place, needed(place, entry, "answer")),),
    )

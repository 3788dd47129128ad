"""Our own format, for users' questions: `questions.jsonl`, one question a line.

    {"image": "b.jpg", "question": "what is it?", "answers": ["a cat", "cat"], "split": "test", "id": 7}
    {"video": "clips/a.mp4", "question": "who runs?", "answers": "a dog", "split": "test", "start_seconds": 2.5}

`video` or `image`, `question` and `split` are required; without `answers`, a question can be asked and not scored.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions.fields import answer_texts, optional_text, question_name, question_text
from evlvideo.data.annotation.readers.fields import check_keys, media_file, seconds
from evlvideo.data.annotation.readers.text_files import find_file, read_json_lines
from evlvideo.errors import UserError

FILE = "questions.jsonl"
SPLITS = ("train", "validate", "test")
KEYS = ("video", "image", "question", "answers", "split", "id", "answer_type", "question_type", "start_seconds",
        "end_seconds")  # fmt: skip


def read(root: Path, media_root: Path, split: str) -> Iterator[Question]:
    """Read a split. Check every line, also those of other splits.

    A question without an `id` gets the path of its file without the suffix, and its number among those of the file.

    Raises:
        UserError: the file is missing, or a line is malformed.
    """
    counts: Counter[str] = Counter()
    for place, entry in read_json_lines(find_file(root, FILE)):
        check_keys(place, entry, KEYS, SPLITS)
        if entry["split"] == split:
            yield _question(place, entry, media_root, counts)
        else:
            _question(place, entry, media_root, Counter())


def _question(place: str, entry: dict[str, Any], media_root: Path, counts: Counter[str]) -> Question:
    name = entry["video"] if "video" in entry else entry["image"]
    file = media_file(place, media_root, name)
    start, end = seconds(place, entry)
    if "image" in entry and (start is not None or end is not None):
        raise UserError(f"{place}: an image has no start_seconds or end_seconds; remove them.")
    clip_id = name.removesuffix(file.suffix)
    counts[clip_id] += 1
    return Question(
        question_id=question_name(place, entry.get("id", f"{clip_id}_{counts[clip_id]}")),
        clip_id=clip_id,
        text=question_text(place, entry),
        video=file,
        answers=answer_texts(place, entry["answers"]) if "answers" in entry else (),
        answer_type=optional_text(place, entry, "answer_type"),
        question_type=optional_text(place, entry, "question_type"),
        start_seconds=start,
        end_seconds=end,
    )

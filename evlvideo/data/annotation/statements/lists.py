"""Read lists of statements, in ALBEF's form or SNLI-VE's own.

    [{"image": "4705552913.jpg", "sentence": "two women hold bags", "label": "neutral"}]
    [{"images": ["dev/a-img0.png", "dev/a-img1.png"], "sentence": "both dogs run", "label": "True"}]
    {"Flickr30K_ID": "4705552913", "sentence2": "two women hold bags", "gold_label": "neutral", "pairID": "…"}

The first two are JSON lists, the third is a JSON Lines file (`.jsonl`), which may have lines of the first two forms as
well. An `id` is optional.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evlvideo.data.annotation.messages import shown
from evlvideo.data.annotation.readers.fields import clip_name, media_file, needed
from evlvideo.data.annotation.readers.json_stream import stream_list
from evlvideo.data.annotation.readers.text_files import NoAnnotationError, read_json_lines
from evlvideo.data.annotation.statements.statement import TASKS, Statement, StatementTask
from evlvideo.errors import UserError

_FLICKR_ID = "Flickr30K_ID"
_NO_CONSENSUS = "-"
"""SNLI's label where annotators disagreed; such a statement is left out, as in SNLI."""


def read_statements(path: Path, image_root: Path, task: str) -> list[Statement]:
    """Read a list of statements.

    Args:
        path: the list: `.json`, or `.jsonl`.
        image_root: directory that its images are named from.
        task: a key of :data:`evlvideo.data.annotation.statements.statement.TASKS`.

    Raises:
        UserError: the list cannot be read, is empty, or an entry is malformed; the message names it.
    """
    if not path.is_file():
        raise NoAnnotationError(f"There is no list of statements {path}; set data.root, and name the list in data.")
    found = [
        _statement(place, _in_one_form(place, entry), image_root, task, number)
        for number, (place, entry) in enumerate(_entries(path))
        if not (isinstance(entry, dict) and entry.get("gold_label") == _NO_CONSENSUS)
    ]
    if not found:
        raise UserError(f"{path} has no statements; get the list again.")
    names: dict[str, int] = {}
    for number, statement in enumerate(found):
        if names.setdefault(statement.statement_id, number) != number:
            raise UserError(f"{path} has two statements of the id {statement.statement_id!r}; ids must be unique.")
    return found


def with_images(statements: Sequence[Statement]) -> tuple[list[Statement], list[Path]]:
    """Split off the statements whose images are there.

    Returns:
        these statements, and the missing images, sorted.
    """
    images = {image for statement in statements for image in statement.images}
    # os.path.exists, unlike Path.exists, accepts names that no file can have.
    missing = {image for image in images if not os.path.exists(image)}  # noqa: PTH110
    return [statement for statement in statements if missing.isdisjoint(statement.images)], sorted(missing)


def _entries(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix == ".jsonl":
        yield from read_json_lines(path)
        return
    for number, entry in enumerate(stream_list(path)):
        yield f"{path}, entry {number}", entry


def _in_one_form(place: str, entry: Any) -> dict[str, Any]:
    """Rename SNLI-VE's own keys to ALBEF's."""
    if not isinstance(entry, dict):
        raise UserError(f"{place} is {shown(entry)}; it must be an object with an image, a sentence and a label.")
    if _FLICKR_ID not in entry:
        return entry
    renamed = {"sentence": "sentence2", "label": "gold_label"}
    found = {key: needed(place, entry, old) for key, old in renamed.items()}
    return {"id": entry.get("pairID"), "image": f"{entry[_FLICKR_ID]}.jpg", **found}


def _statement(place: str, entry: dict[str, Any], image_root: Path, task: str, number: int) -> Statement:
    name, kind = entry.get("id"), TASKS[task]
    return Statement(
        statement_id=clip_name(place, number if name is None else name, "statement"),
        images=tuple(media_file(place, image_root, image) for image in _images(place, entry, task)),
        text=_sentence(place, entry),
        label=_label(place, entry, kind),
    )


def _images(place: str, entry: dict[str, Any], task: str) -> list[Any]:
    count = TASKS[task].images
    if count == 1:
        if "images" in entry:
            raise UserError(f"{place} has 'images', but a statement of {task} is about one 'image'; is it of NLVR2?")
        return [needed(place, entry, "image")]
    if "image" in entry:
        raise UserError(f"{place} has one 'image', but a statement of {task} is about {count} 'images'; is it of VE?")
    images = needed(place, entry, "images")
    if not isinstance(images, list) or len(images) != count:
        raise UserError(f"{place}: the images are {shown(images)}; list {count}.")
    return images


def _sentence(place: str, entry: dict[str, Any]) -> str:
    text = needed(place, entry, "sentence")
    if not isinstance(text, str) or not text.strip():
        raise UserError(f"{place}: the sentence is {shown(text)}; write one, or remove the entry.")
    return text


def _label(place: str, entry: dict[str, Any], task: StatementTask) -> int:
    label = needed(place, entry, "label")
    name = str(label) if isinstance(label, bool) else label  # NLVR2's may be JSON's true and false
    if name not in task.labels:
        raise UserError(f"{place}: the label is {shown(label)}; allowed: {', '.join(task.labels)}.")
    return task.labels.index(name)

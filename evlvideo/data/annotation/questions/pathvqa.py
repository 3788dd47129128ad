"""PathVQA in its three forms; the first that a root has is read.

- `qas/test/test_qa.pkl`, as published: a list of `{"image", "question", "answer"}`, read without running what it names.
- `pvqa_test.json`, of the authors' baselines: a list with an entry for each image, `{"img_id", "sentf": {"pvqa":
  [question, …]}, "labelf": {"pvqa": [{answer: 1}, …]}}`.
- `data/test-*.parquet`, as the hub has it, without duplicates: columns `image`, `question`, `answer`.

Images of the first two are `images/test/<image>.jpg`. Questions have no ids: they are numbered within their image.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evlvideo.data.annotation.messages import shown
from evlvideo.data.annotation.question import Question
from evlvideo.data.annotation.questions.fields import answer_text, opening, question_text
from evlvideo.data.annotation.questions.parquet import read_rows, unpacked_image
from evlvideo.data.annotation.questions.plain_pickle import read_plain_pickle
from evlvideo.data.annotation.readers.fields import clip_name, media_file, needed
from evlvideo.data.annotation.readers.json_stream import stream_list
from evlvideo.data.annotation.readers.text_files import NoAnnotationError
from evlvideo.errors import UserError
from evlvideo.metrics.answers.measures import YES_NO

PARTS = {"train": "train", "validate": "val", "test": "test"}
"""PathVQA's name of each split."""
HUB_PARTS = {"train": "train", "validate": "validation", "test": "test"}
"""The hub's."""
PICKLE_FORM, JSON_FORM, HUB_FORM = "qas/{0}/{0}_qa.pkl", "pvqa_{0}.json", "{0}-*.parquet"


def read(root: Path, media_root: Path, split: str) -> Iterator[Question]:
    """Read a split. Images inside parquet files are unpacked into the cache.

    Raises:
        UserError: no form is there, it is malformed, or a pickle names a class or function.
    """
    counts: Counter[str] = Counter()
    for place, clip_id, file, question, answer in _entries(root, media_root, split):
        counts[clip_id] += 1
        text = question_text(place, {"question": question})
        answer = answer_text(place, answer)
        kind = "closed" if answer.strip().lower() in YES_NO else "open"
        yield Question(f"{clip_id}_{counts[clip_id]}", clip_id, text, file, (answer,), kind, opening(text))


def _entries(root: Path, media_root: Path, split: str) -> Iterator[tuple[str, str, Path, Any, Any]]:
    """Yield the place, image, file, question and answer of each entry."""
    part = PARTS[split]
    for folder in (root, root / "pvqa"):
        pickled, listed = folder / PICKLE_FORM.format(part), folder / JSON_FORM.format(part)
        if pickled.is_file() or listed.is_file():
            plain = _pickled(pickled) if pickled.is_file() else _listed(listed)
            for place, image, question, answer in plain:
                clip_id = clip_name(place, image)
                yield place, clip_id, media_file(place, media_root, f"{part}/{clip_id}.jpg"), question, answer
            return
    pattern = HUB_FORM.format(HUB_PARTS[split])
    shards = sorted([*root.glob(pattern), *root.glob(f"data/{pattern}")])
    if not shards:
        raise NoAnnotationError(
            f"There is no {PICKLE_FORM.format(part)}, {JSON_FORM.format(part)} or data/{pattern} in {root}; put one of "
            "PathVQA's forms there."
        )
    for place, row in read_rows(shards, ("image", "question", "answer")):
        file = unpacked_image(place, row["image"])
        yield place, file.stem, file, row["question"], row["answer"]


def _pickled(path: Path) -> Iterator[tuple[str, Any, Any, Any]]:
    entries = read_plain_pickle(path)
    if not isinstance(entries, list):
        raise UserError(f"{path} holds {shown(entries)}; it must be a list of questions.")
    for number, entry in enumerate(entries):
        place = f"{path}, entry {number}"
        if not isinstance(entry, dict):
            raise UserError(f"{place} is {shown(entry)}; it must have 'image', 'question' and 'answer'.")
        yield place, *(needed(place, entry, key) for key in ("image", "question", "answer"))


def _listed(path: Path) -> Iterator[tuple[str, Any, Any, Any]]:
    for number, entry in enumerate(stream_list(path)):
        place = f"{path}, entry {number}"
        if not isinstance(entry, dict):
            raise UserError(f"{place} is {shown(entry)}; it must have 'img_id', 'sentf' and 'labelf'.")
        questions, labels = (_of_pvqa(place, entry, key) for key in ("sentf", "labelf"))
        if len(questions) != len(labels):
            raise UserError(f"{place} has {len(questions)} questions and {len(labels)} answers; get the file again.")
        for question, label in zip(questions, labels, strict=True):
            if not isinstance(label, dict) or len(label) != 1:
                raise UserError(f"{place}: an answer is {shown(label)}; it must be {{answer: 1}}.")
            yield place, needed(place, entry, "img_id"), question, next(iter(label))


def _of_pvqa(place: str, entry: dict[str, Any], key: str) -> list[Any]:
    of_key = needed(place, entry, key)
    found = of_key.get("pvqa") if isinstance(of_key, dict) else None
    if not isinstance(found, list):
        raise UserError(f"{place}: {key} is {shown(of_key)}; it must be {{'pvqa': […]}}.")
    return found

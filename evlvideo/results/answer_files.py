"""Read and write files of answers: one for each question.

    [{"question_id": 262148000, "answer": "yes"}, …]            VQA's results; ids are numbers or text
    [{"questionId": "201307251", "prediction": "yes"}, …]       GQA's
    {"262148000": "yes", …}
    {"question_id": 262148000, "answer": "yes"}                 one a line: JSON Lines

:data:`ID_KEYS` and :data:`ANSWER_KEYS` are read alike.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evlvideo.data.annotation.caption_files import JsonObject, read_content
from evlvideo.data.annotation.messages import shown
from evlvideo.data.annotation.questions.fields import question_name
from evlvideo.errors import UserError, first_ten
from evlvideo.files import write_json

ID_KEYS = ("question_id", "questionId", "id")
"""Keys of the question's id; the first one found is used."""
ANSWER_KEYS = ("answer", "prediction", "pred_ans")
"""Keys of the answer; the first one found is used."""
_FORM = 'expected a list of {"question_id": …, "answer": …}, or {id: answer}, or such objects one a line'


def read_answers(path: Path) -> dict[str, str]:
    """Read question → answer. Answers may be empty.

    Raises:
        UserError: the file cannot be read, has another form, or has several answers to a question (they are listed).
    """
    pairs = list(_pairs(str(path), read_content(path)))
    repeated = [(question_id, count) for question_id, count in Counter(name for name, _ in pairs).items() if count > 1]
    if repeated:
        listed = first_ten([f"{question_id} ({count})" for question_id, count in repeated])
        raise UserError(f"{path} has more than one answer to {len(repeated)} questions: {listed}. Keep one for each.")
    return dict(pairs)


def write_answers(path: Path, answers: Mapping[str, str], keys: tuple[str, str] = ("question_id", "answer")) -> None:
    """Write a file of results, whole or not at all.

    Args:
        path: the file.
        answers: question → answer.
        keys: keys of the question and of the answer. VQA's server wants numbers as ids, so that those are written as
            such; GQA's ids are text.
    """
    question_key, answer_key = keys
    numbers = question_key == "question_id"
    write_json(
        path,
        [
            {question_key: int(name) if numbers and _is_number(name) else name, answer_key: answer}
            for name, answer in answers.items()
        ],
    )


def _is_number(name: str) -> bool:
    """Return whether an id was a number, as one that begins with zeros was not."""
    return name.isascii() and name.isdecimal() and str(int(name)) == name


def _pairs(place: str, content: Any) -> Iterator[tuple[str, str]]:
    if isinstance(content, list):
        for number, entry in enumerate(content):
            yield _of_entry(f"{place}, entry {number}", entry)
    elif isinstance(content, JsonObject) and _key(content, ANSWER_KEYS) is not None:
        yield _of_entry(place, content)
    elif isinstance(content, JsonObject):
        for name, answer in content.pairs:
            yield name, _answer(place, name, answer)
    else:
        raise UserError(f"{place} holds neither a list nor a mapping; {_FORM}.")


def _of_entry(place: str, entry: Any) -> tuple[str, str]:
    id_key, answer_key = (_key(entry, keys) for keys in (ID_KEYS, ANSWER_KEYS))
    if id_key is None or answer_key is None:
        raise UserError(f"{place} is {shown(entry)}; {_FORM}.")
    name = question_name(place, entry[id_key])
    return name, _answer(place, name, entry[answer_key])


def _key(entry: Any, keys: tuple[str, ...]) -> str | None:
    return next((key for key in keys if key in entry), None) if isinstance(entry, dict) else None


def _answer(place: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UserError(f"{place}: the answer to {name} is {shown(value)}, not text; {_FORM}.")
    return value

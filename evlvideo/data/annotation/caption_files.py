"""Read captions by clip from the files that captioners and scorers write.

    [{"image_id": "video7010", "caption": "a man runs"}, …]     ours, and COCO's results, where ids are numbers
    {"video7010": "a man runs", …}                              or [caption], or [{"caption": caption}]
    {"version": …, "result": …}                                 either of these, as challenges ask for them
    {"image_id": "video7010", "caption": "a man runs"}          one a line: JSON Lines
    image_id,caption                                            a csv file with a header, ending in .csv
    video7010 [{"caption": "a man runs"}]                       separated by a tab, or with plain text: .tsv
    {"filtered_resps": "a man runs", "CIDEr": {"image_id": "video7010", …}, …}        a sample of lmms-eval: .jsonl

:data:`ID_KEYS` and :data:`CAPTION_KEYS` are read alike.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evlvideo.data.annotation.messages import shown
from evlvideo.data.annotation.readers.text_files import read_lines, read_table
from evlvideo.errors import UserError
from evlvideo.files import parse_json

ID_KEYS = ("image_id", "video_id", "videoID", "clip_id", "id")
"""Keys of the id; the first one found is used."""
CAPTION_KEYS = ("caption", "captions", "sentence", "enCap", "chCap")
"""Keys of the caption, or of a list of them; the first one found is used."""

_CONTAINERS = ("result", "results", "predictions", "annotations")
"""Keys that hold all captions, beside keys that are not read."""
_FORM = (
    'expected a list of {"image_id": …, "caption": …}, or {id: caption}, or either under "result", or such objects one '
    "a line, or a .csv file with image_id,caption"
)


class JsonObject(dict[str, Any]):
    """A JSON object.

    Args:
        pairs: its keys and values.
    """

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs
        """Keys and values in the order of the file, with repeated keys."""


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Read ids and captions in the order of the file, with repeated ids.

    Raises:
        UserError: the file cannot be read or has another form.
    """
    if path.suffix.lower() == ".csv":
        return list(_csv_pairs(path))
    pairs = _tsv_pairs(path) if path.suffix.lower() == ".tsv" else _pairs(str(path), read_content(path))
    return [(_id(path, clip_id), caption) for clip_id, caption in pairs]


def read_content(path: Path) -> Any:
    """Read the value of a JSON file, with objects as :class:`JsonObject`: a list for JSON Lines, `None` for a table.

    Raises:
        UserError: the file cannot be read, or is not JSON.
    """
    if path.suffix.lower() in (".csv", ".tsv"):
        return None
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = _json_lines(path, text)
        return parse_json(text, JsonObject) if lines is None else lines
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a JSON file: {error}.") from error


def _json_lines(path: Path, text: str) -> list[Any] | None:
    """Return the values of JSON Lines, which not every tool calls so; `None` if the text is one value."""
    numbered = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if path.suffix.lower() not in (".jsonl", ".ndjson"):
        try:
            if len(numbered) < 2 or not isinstance(parse_json(numbered[0][1]), dict):
                return None
        except (ValueError, RecursionError):
            return None
    values = []
    for number, line in numbered:
        try:
            values.append(parse_json(line, JsonObject))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number} is not JSON: {error}; write one object a line.") from error
    return values


def _pairs(place: str, content: Any) -> Iterator[tuple[Any, str]]:
    if isinstance(content, list):
        for number, entry in enumerate(content):
            yield from _of_entry(f"{place}, entry {number}", entry)
        return
    if not isinstance(content, JsonObject):
        raise UserError(f"{place} holds neither a list nor a mapping; {_FORM}.")
    container = next((key for key in _CONTAINERS if isinstance(content.get(key), list | dict)), None)
    if container is not None:
        yield from _pairs(f"{place}, {container}", content[container])
    elif _keys(content) is not None:
        yield from _of_entry(place, content)
    else:
        for clip_id, value in content.pairs:
            for caption in _captions(place, clip_id, value):
                yield clip_id, caption


def _of_entry(place: str, entry: Any) -> Iterator[tuple[Any, str]]:
    entry = _of_sample(entry)
    keys = _keys(entry)
    if keys is None:
        raise UserError(f"{place} is {shown(entry)}; {_FORM}.")
    id_key, caption_key = keys
    for caption in _captions(place, entry[id_key], entry[caption_key]):
        yield entry[id_key], caption


def _of_sample(entry: Any) -> Any:
    """Return the id and the caption of one of lmms-eval's samples, and anything else as it is.

    Of the document, a sample has only what its metrics kept, such as `{"CIDEr": {"image_id": …, …}}`.
    """
    if not isinstance(entry, dict) or "filtered_resps" not in entry:
        return entry
    for kept in entry.values():
        if isinstance(kept, dict) and (id_key := next((key for key in ID_KEYS if key in kept), None)):
            return {id_key: kept[id_key], "caption": entry["filtered_resps"]}
    return entry


def _keys(entry: Any) -> tuple[str, str] | None:
    """Return the keys of the id and of the caption."""
    if not isinstance(entry, dict):
        return None
    found = [next((key for key in keys if key in entry), None) for keys in (ID_KEYS, CAPTION_KEYS)]
    return None if None in found else (str(found[0]), str(found[1]))


def _captions(place: str, clip_id: Any, value: Any) -> Iterator[str]:
    """Yield the captions of a clip: a text, an object that holds some, or a list of these."""
    key = next((key for key in CAPTION_KEYS if key in value), None) if isinstance(value, dict) else None
    if isinstance(value, str):
        yield value
    elif key is not None:
        yield from _captions(place, clip_id, value[key])
    elif isinstance(value, list) and value and not any(isinstance(caption, list) for caption in value):
        for caption in value:
            yield from _captions(place, clip_id, caption)
    else:
        raise UserError(f"{place}: the caption of {clip_id!r} is {shown(value)}, not text; {_FORM}.")


def _csv_pairs(path: Path) -> Iterator[tuple[str, str]]:
    for place, (caption, *ids) in read_table(path, ("caption",), optional=ID_KEYS):
        clip_id = next((clip_id.strip() for clip_id in ids if clip_id.strip()), None)
        if clip_id is None:
            raise UserError(f"{place}: there is no id in {', '.join(ID_KEYS)}; {_FORM}.")
        yield clip_id, caption


def _tsv_pairs(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in read_lines(path):
        clip_id, tab, value = line.partition("\t")
        if not line.strip() or (number == 1 and clip_id in ID_KEYS and value in CAPTION_KEYS):
            continue
        place = f"{path}, line {number}"
        if not tab:
            raise UserError(f"{place} has no tab; write an id, a tab and a caption.")
        try:
            given = parse_json(value, JsonObject) if value.startswith(("[", "{")) else value
        except (ValueError, RecursionError):
            given = value  # text that begins with a bracket
        for caption in _captions(place, clip_id, given):
            yield clip_id.strip(), caption


def _id(path: Path, clip_id: Any) -> str:
    """Return an id as text. A whole number that a table wrote as 7010.0 is 7010."""
    if isinstance(clip_id, bool) or not isinstance(clip_id, str | int | float):
        raise UserError(f"{path}: an id is {shown(clip_id)}; it must be text or a number.")
    if isinstance(clip_id, float) and clip_id.is_integer():
        return str(int(clip_id))
    return str(clip_id)

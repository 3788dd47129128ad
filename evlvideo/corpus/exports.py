"""Write the captions of a job in other forms, from its parts: a dataset of our own, WebVid's csv, texts, subtitles."""

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evlvideo.corpus.films.of_job import cues_by_film
from evlvideo.corpus.films.subtitles import SUBTITLES
from evlvideo.corpus.output import EXPORTS, read_records
from evlvideo.corpus.sources import IN_SHARD, SHARD_SUFFIX
from evlvideo.data.video.backends.image import IMAGE_SUFFIXES
from evlvideo.errors import UserError
from evlvideo.files import new_directory, replacing
from evlvideo.inference.caption_collection import common_root
from evlvideo.results.generated_captions import how_to_train, line_of, place_of

_MP4 = ".mp4"
_WEBVID = ("videoid", "contentUrl", "duration", "page_dir", "name")


def check_forms(forms: Sequence[str]) -> None:
    """Check the names of forms.

    Raises:
        UserError: one is unknown.
    """
    unknown = [form for form in forms if form not in _WRITERS]
    if unknown:
        raise UserError(f"The form {unknown[0]!r} is unknown; allowed: {', '.join(_WRITERS)}.")


def export(directory: Path, forms: Sequence[str], made_by: Mapping[str, Any], split: str) -> list[str]:
    """Write all captions of a job in other forms, each whole or not at all. What an earlier call wrote is replaced.

    Args:
        directory: the job's.
        forms: keys of :data:`evlvideo.corpus.output.EXPORTS`.
        made_by: what the captions depend on, for the dataset.
        split: of the dataset.

    Returns:
        a line for each, to tell.

    Raises:
        UserError: one cannot be written.
    """
    folders = {Path(_as_path(path)).parent for path in _captioned_paths(directory)}
    if not folders or not forms:
        return []
    root = common_root(folders, directory / EXPORTS["jsonl"])
    return [_WRITERS[form](directory, directory / EXPORTS[form], root, made_by, split) for form in forms]


def _captioned_paths(directory: Path) -> Iterator[str]:
    for record in read_records(directory, ["path", "error"]):
        if record["error"] is None:
            yield record["path"]


def _captioned(directory: Path) -> Iterator[dict[str, Any]]:
    return (record for record in read_records(directory) if record["error"] is None)


def _write_jsonl(directory: Path, file: Path, root: Path, made_by: Mapping[str, Any], split: str) -> str:
    left_out = 0
    makers = {**made_by, **place_of(root, file)}
    with replacing(file) as temporary, temporary.open("w", encoding="utf-8") as opened:
        for record in _captioned(directory):
            if _in_shard(record):
                left_out += 1
                continue
            image = Path(record["path"]).suffix.lower() in IMAGE_SUFFIXES
            times = {} if image else {f"{key}_seconds": record[key] for key in ("start", "end")}
            more = {"split": split, "id": record["id"], **{k: v for k, v in times.items() if v is not None}}
            name = os.path.relpath(record["path"], root)
            line = line_of(name, makers, image, record["captions"], record["log_probabilities"], more)
            opened.write(json.dumps(line, ensure_ascii=False) + "\n")
    return f"{file}: {how_to_train(file, root)}{_told(left_out, 'in tar shards, which it cannot name')}"


def _write_webvid(directory: Path, file: Path, root: Path, made_by: Mapping[str, Any], split: str) -> str:
    left_out = 0
    with replacing(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(_WEBVID)
        for record in _captioned(directory):
            path = record["path"]
            if _in_shard(record) or _is_part(record) or not path.endswith(_MP4):
                left_out += 1
                continue
            name = os.path.relpath(path, root).removesuffix(_MP4)
            writer.writerow([name, path, "", "", record["caption"]])
    return f"{file}: WebVid's form, of the videos in {root}.{_told(left_out, f'no whole {_MP4} files')}"


def _write_texts(directory: Path, folder: Path, root: Path, made_by: Mapping[str, Any], split: str) -> str:
    taken: set[str] = set()
    with _replaced_folder(folder) as temporary:
        for record in _captioned(directory):
            stem = _stem(record["path"], root)
            name = f"{stem}.{record['id']}" if _is_part(record) or stem in taken else stem
            taken.add(name)
            _write_file(temporary / f"{name}.txt", "".join(f"{caption}\n" for caption in record["captions"]))
    return f"{folder}: {len(taken):,} text files, named as in {root}."


def _write_subtitles(directory: Path, folder: Path, root: Path, made_by: Mapping[str, Any], split: str) -> str:
    taken: set[str] = set()
    cues_written = 0
    with _replaced_folder(folder) as temporary:
        for path, cues in cues_by_film(directory):
            stem = _stem(path, root)
            name = f"{stem}{Path(path).suffix}" if stem in taken else stem
            taken.add(name)
            cues_written += len(cues)
            _write_file(temporary / f"{name}.{folder.name}", SUBTITLES[folder.name](cues))
    if not taken:
        return f"{folder}: no subtitles, since no row has times; caption parts of films with --windows or --shots."
    return f"{folder}: subtitles of {len(taken):,} films with {cues_written:,} cues, named as in {root}."


@contextmanager
def _replaced_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder that takes the place of another, if it becomes whole."""
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    with new_directory(fresh) as temporary:
        yield temporary
    shutil.rmtree(folder, ignore_errors=True)
    fresh.replace(folder)


def _stem(path: str, root: Path) -> str:
    """Return a path from a root, without suffix. Names in a shard may lead out of it; these stay inside."""
    inside = os.path.normpath(os.path.join("/", os.path.relpath(_as_path(path), root)))  # noqa: PTH118
    return os.path.splitext(inside)[0].lstrip("/")  # noqa: PTH122


def _write_file(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


_WRITERS: dict[str, Callable[[Path, Path, Path, Mapping[str, Any], str], str]] = {
    "jsonl": _write_jsonl,
    "webvid": _write_webvid,
    "txt": _write_texts,
    "srt": _write_subtitles,
    "vtt": _write_subtitles,
}
"""By the name of the form: from the job's directory, the place to write, the folder that names are relative to, what
made the captions, and the split, to a line to tell."""


def _in_shard(record: Mapping[str, Any]) -> bool:
    return SHARD_SUFFIX + IN_SHARD in record["path"]


def _is_part(record: Mapping[str, Any]) -> bool:
    return record["start"] is not None or record["end"] is not None


def _as_path(path: str) -> str:
    """Return a path in which a shard is a folder."""
    return path.replace(SHARD_SUFFIX + IN_SHARD, "/")


def _told(count: int, why: str) -> str:
    return f" {count:,} rows are left out: {why}." if count else ""

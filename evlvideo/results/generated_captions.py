"""Captions that a model made, as a `captions.jsonl` of our own form, which is written line by line and continued.

    {"video": "clips/a.mp4", "captions": ["a dog runs"], "split": "train",
     "generated": {"model": "msrvtt-scst", "weights": "…", "decoding": {…}, "scores": [-0.51]}}

Files without a caption are in a file beside it, `captions.bad.jsonl`: `{"file": "clips/b.mp4", "reason": "…"}`.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from evlvideo.config.settings import told_differences
from evlvideo.data.annotation.readers.jsonl import FILE
from evlvideo.errors import UserError
from evlvideo.files import parse_object

GENERATED = "generated"
"""Key of what made the captions of a line."""
MEDIA_ROOT = "media_root"
"""Key of what names of files are relative to, from the folder of the file, if it is another one."""
SCORES = "scores"
"""Key of what differs from line to line: a score of each caption."""


class GeneratedCaptions:
    """The lines of a file, and of the file beside it, as an earlier call left them.

    A last line that was cut off, as by a kill, counts for nothing, and is removed by the next line that is written.

    Args:
        path: the file, which need not exist.
        made_by: what all captions depend on: plain values by name.
        writes: whether this process writes, as one of several does.

    Raises:
        UserError: the file holds something else, or captions that were made otherwise; every difference is named.
    """

    def __init__(self, path: Path, made_by: Mapping[str, Any], *, writes: bool = True) -> None:
        self.path, self.bad_path = path, bad_path_of(path)
        self.captions: dict[str, int] = {}
        """Name of a file → how many captions it has."""
        self.bad: dict[str, str] = {}
        """Name of a file → why it has none."""
        self.ids: set[str] = set()
        """Ids of the clips, as readers give them."""
        self._writes = writes
        self._made_by = json.loads(json.dumps(made_by))
        self._whole = {file: self._read(file) for file in (self.bad_path, path)}

    def _read(self, file: Path) -> int:
        """Read the whole lines of a file, and return their bytes."""
        content = file.read_bytes() if file.exists() else b""
        whole = content.rfind(b"\n") + 1
        take = self._take_bad if file == self.bad_path else self._take
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            take(f"{file}, line {number}", parse_object(line.decode("utf-8", "replace")) or {})
        # Someone else's only line may lack its end, and is not to be cut off.
        only = None if whole else parse_object(content.decode("utf-8", "replace"))
        if only is not None and not only.keys() & {GENERATED, "file"}:
            raise _not_ours(f"{file}, line 1")
        return whole

    def _take(self, place: str, entry: Mapping[str, Any]) -> None:
        made, name = entry.get(GENERATED), entry.get("video", entry.get("image"))
        if not isinstance(made, dict) or not isinstance(name, str) or not isinstance(entry.get("captions"), list):
            raise _not_ours(place)
        differences = told_differences({key: value for key, value in made.items() if key != SCORES}, self._made_by)
        if differences:
            raise UserError(
                f"{place} was made with other settings; name another --out, or remove the file:\n"
                + "\n".join(differences)
            )
        self.captions[name] = len(entry["captions"])
        self.ids.add(str(entry.get("id", os.path.splitext(name)[0])))  # noqa: PTH122  (names in files have slashes)

    def _take_bad(self, place: str, entry: Mapping[str, Any]) -> None:
        if not isinstance(entry.get("file"), str):
            raise _not_ours(place)
        self.bad[entry["file"]] = str(entry.get("reason"))

    def open(self) -> None:
        """Make the file, or cut off what is not whole, in the process that writes.

        Raises:
            UserError: a file cannot be written.
        """
        for file, whole in self._whole.items():
            if self._writes and (file == self.path or file.exists()):
                with _told_if_not_written(file), file.open("ab") as opened:
                    opened.truncate(whole)

    def append(self, name: str, *, image: bool, captions: Sequence[str], scores: Sequence[float], split: str) -> None:
        """Write the line of a file.

        Raises:
            UserError: it cannot be written.
        """
        clip_id = os.path.splitext(name)[0]  # noqa: PTH122
        # A video and an image of one name are two clips.
        own_id = {"id": name} if clip_id in self.ids else {}
        self._write(self.path, line_of(name, self._made_by, image, captions, scores, {"split": split, **own_id}))
        self.ids.add(own_id.get("id", clip_id))
        self.captions[name] = len(captions)

    def append_bad(self, name: str, reason: str) -> None:
        """Write why a file has no captions.

        Raises:
            UserError: it cannot be written.
        """
        self._write(self.bad_path, {"file": name, "reason": reason})
        self.bad[name] = reason

    def _write(self, file: Path, entry: Mapping[str, Any]) -> None:
        if self._writes:
            with _told_if_not_written(file), file.open("a", encoding="utf-8") as opened:
                opened.write(json.dumps(entry, ensure_ascii=False) + "\n")


def line_of(
    name: str,
    made_by: Mapping[str, Any],
    image: bool,
    captions: Sequence[str],
    scores: Sequence[float],
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the object of a file's line.

    Args:
        name: of the file.
        made_by: what its captions depend on.
        image: whether it is one.
        captions: its captions.
        scores: of each caption.
        more: further keys, such as its `split`.
    """
    made = {**made_by, SCORES: [round(score, 4) for score in scores]}
    return {"image" if image else "video": name, "captions": list(captions), **more, GENERATED: made}


def place_of(media_root: Path, file: Path) -> dict[str, str]:
    """Return what the names in a file are relative to, from its folder, as `media_root`; nothing if it is that."""
    place = os.path.relpath(media_root.absolute(), file.parent.absolute())
    return {} if place == "." else {MEDIA_ROOT: place}


def how_to_train(file: Path, media_root: Path) -> str:
    """Say how a run trains on a file."""
    named = "" if file.name == FILE else f" once it is named {FILE}"
    place = f", video_root: {media_root}" if place_of(media_root, file) else ""
    return f"Train on it{named} with dataset: jsonl, root: {file.parent}{place}."


def bad_path_of(path: Path) -> Path:
    """Return the place of the list of files without a caption."""
    return path.with_name(f"{path.stem}.bad.jsonl")


@contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Lock a file for this process while the block runs, by a hidden file beside it.

    Raises:
        UserError: another process has locked it, or its directory cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another process writes {path}, and two would write everything twice; wait for it, or stop it."
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _told_if_not_written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error


def _not_ours(place: str) -> UserError:
    return UserError(
        f"{place} is not one that `evlvideo caption --out` wrote, and nothing is written over it; name another --out."
    )

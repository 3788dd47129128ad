"""Store millions of clips in a few arrays, in memory or in a memory-mapped file."""

import json
import operator
import os
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.packed_strings import PackedStrings, PackedStringsBuilder

_NONE: dict[str, float] = {
    "category": -(2**63),
    "evidence_of": -1,
    "question_of": -1,
    "maker_of": -1,
    "start_seconds": np.nan,
    "end_seconds": np.nan,
}
"""Optional columns, and the value that stands for None."""
_SHARED_TEXTS = {
    "evidence_of": ("evidence", "evidences"),
    "question_of": ("question", "questions"),
    "maker_of": ("generated_by", "makers"),
}
"""Columns that hold an index into texts → the field of the clip, and the texts."""
_TEXTS = ("ids", "folders", "names", "captions", "evidences", "questions", "makers")
_NUMBERS = ("folder_of", "caption_ends", *_NONE)
_FORMAT = "evlvideo-clips-1"


class ClipTable(Sequence[CaptionedClip]):
    """A sequence of clips, each created when it is accessed.

    As objects, WebVid's 2.5 million clips take some 1.7 GB, and over time the same again in every worker of a data
    loader, since reference counts write to memory shared by a fork. In a table, a clip takes about as many bytes as its
    strings, and reading writes nothing. A slice or selection is a view, with at most 8 bytes a clip.

    Args:
        clips: the clips; iterated once.
    """

    def __init__(self, clips: Iterable[CaptionedClip] = ()) -> None:
        builder = ClipTableBuilder()
        for clip in clips:
            builder.append(clip)
        self._set(*builder.arrays())

    def _set(
        self, texts: Mapping[str, PackedStrings], numbers: Mapping[str, np.ndarray], file: Path | None = None
    ) -> None:
        self._texts, self._numbers, self._file = texts, numbers, file
        self._folder_of = numbers["folder_of"].data
        self._first_captions = numbers["caption_ends"].data
        self._optional = [(name, none, numbers[name].data) for name, none in _NONE.items() if name in numbers]
        # Of a view: the rows of its clips, and the end of each one's captions.
        self._rows: np.ndarray | None = None
        self._ends = self._first_captions

    def __len__(self) -> int:
        """Count the clips."""
        return len(self._folder_of) if self._rows is None else len(self._rows)

    @overload
    def __getitem__(self, number: int) -> CaptionedClip: ...
    @overload
    def __getitem__(self, number: slice) -> "ClipTable": ...
    def __getitem__(self, number: int | slice) -> "CaptionedClip | ClipTable":
        """Return a clip, or a view of some.

        Raises:
            IndexError: there is no such clip.
        """
        if isinstance(number, slice):
            return self.take(np.arange(*number.indices(len(self))))
        number = operator.index(number)
        if not -len(self) <= number < len(self):
            raise IndexError(f"The index is {number}; the table has {len(self)} clips.")
        number %= len(self)
        return self._clip(number if self._rows is None else int(self._rows[number]))

    def __iter__(self) -> Iterator[CaptionedClip]:
        """Yield the clips in order."""
        return map(self._clip, range(len(self)) if self._rows is None else map(int, self._rows))

    def _clip(self, row: int) -> CaptionedClip:
        texts = self._texts
        first = self._first_captions[row - 1] if row else 0
        return CaptionedClip(
            clip_id=texts["ids"][row],
            video=Path(texts["folders"][self._folder_of[row]], texts["names"][row]),
            captions=tuple(texts["captions"][first : self._first_captions[row]]),
            **dict(self._rest(row)),
        )

    def _rest(self, row: int) -> Iterator[tuple[str, Any]]:
        """Yield the values of the optional columns."""
        for name, none, column in self._optional:
            value = column[row]
            if value != none and value == value:  # NaN is not equal to itself.
                field, texts = _SHARED_TEXTS.get(name, (name, None))
                yield field, value if texts is None else self._texts[texts][value]

    def take(self, numbers: np.ndarray) -> "ClipTable":
        """Return a view of the clips at these indices, in this order."""
        view = ClipTable.__new__(ClipTable)
        view._set(self._texts, self._numbers, self._file)
        view._rows = numbers if self._rows is None else self._rows[numbers]
        view._ends = np.cumsum(self.caption_counts()[numbers], dtype=np.uint64).data
        return view

    def caption_counts(self) -> np.ndarray:
        """Return the number of captions of each clip."""
        return np.diff(np.asarray(self._ends), prepend=np.uint64(0))

    def caption_ends(self) -> memoryview:
        """Return the cumulative number of captions up to each clip."""
        return self._ends.toreadonly()

    def find_caption(self, place: int) -> tuple[int, int]:
        """Find a caption by its index among all: return the index of its clip, and its index in the clip."""
        number = bisect_right(self._ends, place)
        return number, place - (self._ends[number - 1] if number else 0)

    def captions_by_maker(self) -> dict[str, int]:
        """Count the captions that models made, by the model's name."""
        if "maker_of" not in self._numbers:
            return {}
        makers = self._numbers["maker_of"]
        of_clips = makers if self._rows is None else makers[self._rows]
        counts = self.caption_counts()
        found = {int(maker): int(counts[of_clips == maker].sum()) for maker in np.unique(of_clips[of_clips >= 0])}
        return {self._texts["makers"][maker]: count for maker, count in found.items()}

    @property
    def generated(self) -> str:
        """Say how many captions models made, and which models; empty if people made all."""
        return ", ".join(f"{count:,} generated by {maker}" for maker, count in self.captions_by_maker().items())

    @property
    def ids(self) -> Sequence[str]:
        """Ids of the clips."""
        ids = self._texts["ids"]
        return ids if self._rows is None else [ids[row] for row in self._rows.tolist()]

    @property
    def folders(self) -> PackedStrings:
        """Folders of the videos; a view may use only some."""
        return self._texts["folders"]

    def folder_numbers(self) -> np.ndarray:
        """Return the index of each clip's folder."""
        folders = self._numbers["folder_of"]
        return folders if self._rows is None else folders[self._rows]

    def file_name(self, number: int) -> str:
        """Return the file name of a clip's video."""
        return self._texts["names"][number if self._rows is None else int(self._rows[number])]

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the whole table as safetensors; see :meth:`open`."""
        arrays = {name: np.asarray(array) for name, array in self._numbers.items()}
        for name, strings in self._texts.items():
            arrays[f"{name}.bytes"], arrays[f"{name}.ends"] = strings.content, strings.ends
        save_file(arrays, path, metadata={"format": _FORMAT, **metadata})

    @classmethod
    def open(cls, path: Path) -> tuple["ClipTable", dict[str, str]]:
        """Memory-map a file; processes of a machine share the memory.

        Returns:
            the table, and the metadata given to :meth:`save`.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is not such a file, or truncated.
        """
        arrays, metadata = _mapped(path)
        if metadata.pop("format", None) != _FORMAT:
            raise ValueError(f"{path} is not a table of clips in the format {_FORMAT}")
        table = cls.__new__(cls)
        # Older files have neither questions nor makers.
        known = [name for name in _TEXTS if f"{name}.bytes" in arrays]
        texts = {name: PackedStrings(arrays[f"{name}.bytes"], arrays[f"{name}.ends"]) for name in known}
        table._set(texts, {name: arrays[name] for name in _NUMBERS if name in arrays}, path)
        return table, metadata

    def __getstate__(self) -> dict[str, Any]:
        """Pickle a mapped table by its path, so that other processes map it as well."""
        held = None if self._file is not None else (self._texts, self._numbers)
        return {"file": self._file, "held": held, "rows": self._rows}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state["file"] is None:
            texts, numbers = state["held"]
        else:
            whole, _ = ClipTable.open(state["file"])
            texts, numbers = whole._texts, whole._numbers
        self._set(texts, numbers, state["file"])
        if state["rows"] is not None:
            self.__dict__.update(self.take(state["rows"]).__dict__)


class ClipTableBuilder:
    """Builds a table clip by clip. Optional columns begin with the first clip that has a value."""

    def __init__(self) -> None:
        self.texts = {name: PackedStringsBuilder() for name in _TEXTS}
        self.folder_of, self.caption_ends = array("I"), array("Q")
        self.rest: dict[str, array[Any]] = {}
        self._folders: dict[str, int] = {}
        self._shared: dict[str, dict[str, int]] = {texts: {} for _, texts in _SHARED_TEXTS.values()}

    def append(self, clip: CaptionedClip) -> None:
        """Append a clip."""
        folder, name = os.path.split(clip.video)
        self.texts["ids"].append(clip.clip_id)
        self.texts["names"].append(name)
        self.folder_of.append(_number_of(folder, self._folders, self.texts["folders"]))
        for caption in clip.captions:
            self.texts["captions"].append(caption)
        self.caption_ends.append(len(self.texts["captions"]))
        self._append_rest("category", "q", clip.category)
        for column, (field, texts) in _SHARED_TEXTS.items():
            text = getattr(clip, field)
            number = None if text is None else _number_of(text, self._shared[texts], self.texts[texts])
            self._append_rest(column, "i", number)
        self._append_rest("start_seconds", "d", clip.start_seconds)
        self._append_rest("end_seconds", "d", clip.end_seconds)

    def _append_rest(self, name: str, kind: str, value: float | None) -> None:
        if value is not None and name not in self.rest:
            self.rest[name] = array(kind, [_NONE[name]]) * (len(self.folder_of) - 1)
        if name in self.rest:
            self.rest[name].append(_NONE[name] if value is None else value)

    def table(self) -> ClipTable:
        """Return the table without a copy; nothing can be appended after that."""
        table = ClipTable.__new__(ClipTable)
        table._set(*self.arrays())
        return table

    def arrays(self) -> tuple[dict[str, PackedStrings], dict[str, np.ndarray]]:
        """Return the columns of strings and of numbers."""
        columns = {"folder_of": self.folder_of, "caption_ends": self.caption_ends, **self.rest}
        texts = {name: builder.strings() for name, builder in self.texts.items()}
        return texts, {name: np.asarray(column) for name, column in columns.items()}


def _number_of(text: str, numbers: dict[str, int], texts: PackedStringsBuilder) -> int:
    if text not in numbers:
        numbers[text] = len(texts)
        texts.append(text)
    return numbers[text]


def _mapped(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Memory-map the tensors of a safetensors file; the library itself copies them for NumPy."""
    try:
        with safe_open(path, "np") as checked:
            metadata: dict[str, str] = checked.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a table of clips: {error}") from error
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    content = np.memmap(path, np.uint8, "r")[8 + length :]
    places = {name: facts for name, facts in header.items() if name != "__metadata__"}
    return {
        name: np.asarray(content[slice(*facts["data_offsets"])]).view(_TYPES[facts["dtype"]])
        for name, facts in places.items()
    }, metadata


_TYPES = {"U8": np.uint8, "U32": np.uint32, "U64": np.uint64, "I32": np.int32, "I64": np.int64, "F64": np.float64}

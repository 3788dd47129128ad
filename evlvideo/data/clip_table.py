"""Millions of clips in a few long arrays."""

import os
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

from evlvideo.data.captioned import CaptionedClip


class ClipTable(Sequence[CaptionedClip]):
    """Clips by number, made anew each time they are asked for.

    As objects, WebVid's 2.5 million clips take some 1.7 GB, and in time as much again in every worker of a data loader,
    since counting references writes to memory that a fork had shared. Here a clip takes about as many bytes as its
    strings have, and nothing is written.

    Args:
        clips: the clips, which are gone through once.
    """

    def __init__(self, clips: Iterable[CaptionedClip]) -> None:
        self._ids, self._names, self._captions = _Strings(), _Strings(), _Strings()
        self._caption_ends = array("Q")
        self._folders: list[Path] = []
        self._folder_of = array("I")
        self._rest: dict[int, dict[str, Any]] = {}
        numbers: dict[str, int] = {}
        for clip in clips:
            folder, name = os.path.split(clip.video)
            if folder not in numbers:
                numbers[folder] = len(self._folders)
                self._folders.append(clip.video.parent)
            self._folder_of.append(numbers[folder])
            self._names.append(name)
            self._add(clip)

    def _add(self, clip: CaptionedClip) -> None:
        rest = {name: getattr(clip, name) for name in ("category", "evidence", "start_seconds", "end_seconds")}
        if any(value is not None for value in rest.values()):
            self._rest[len(self._ids)] = rest
        self._ids.append(clip.clip_id)
        for caption in clip.captions:
            self._captions.append(caption)
        self._caption_ends.append(len(self._captions))

    def __len__(self) -> int:
        """Count the clips."""
        return len(self._ids)

    @overload
    def __getitem__(self, number: int) -> CaptionedClip: ...
    @overload
    def __getitem__(self, number: slice) -> list[CaptionedClip]: ...
    def __getitem__(self, number: int | slice) -> CaptionedClip | list[CaptionedClip]:
        """Make a clip.

        Raises:
            IndexError: there is no such clip.
        """
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        if not -len(self) <= number < len(self):
            raise IndexError(f"The index is {number}; the table has {len(self)} clips.")
        number %= len(self)
        captions = range(self._caption_ends[number - 1] if number else 0, self._caption_ends[number])
        return CaptionedClip(
            clip_id=self._ids[number],
            video=self._folders[self._folder_of[number]] / self._names[number],
            captions=tuple(self._captions[place] for place in captions),
            **self._rest.get(number, {}),
        )

    def caption_ends(self) -> memoryview:
        """Give, for each clip, how many captions it and those before it have: places of items that are captions."""
        return memoryview(self._caption_ends).toreadonly()


class _Strings:
    """Strings one after the other, as UTF-8."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._ends = array("Q")

    def append(self, text: str) -> None:
        self._bytes += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> str:
        start = self._ends[number - 1] if number else 0
        return self._bytes[start : self._ends[number]].decode("utf-8", "surrogatepass")

"""Refuse duplicate ids in lists of millions, or join the captions of neighboring entries."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby

import numpy as np

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.messages import shown
from evlvideo.errors import UserError

_AT_A_TIME = 65_536


class UniqueIds:
    """Takes clip ids one by one and refuses duplicates, with 8 bytes an id; a set takes 150.

    Compares 64-bit hashes, thousands at a time. So a duplicate is refused a little late, and :meth:`check` must be
    called after the last id.

    Args:
        advice: what to do about a duplicate.
    """

    def __init__(self, advice: str = "keep one") -> None:
        self._advice = advice
        self._old = np.empty(0, np.int64)
        self._new: dict[int, tuple[str, str]] = {}

    def add(self, place: str, clip_id: str) -> None:
        """Add an id that was read at a place.

        Raises:
            UserError: this id, or an unchecked one, is a duplicate.
        """
        key = hash(clip_id)
        if key in self._new:
            raise self._twice(place, clip_id)
        self._new[key] = place, clip_id
        if len(self._new) == _AT_A_TIME:
            self.check()

    def check(self) -> None:
        """Compare the ids added since the last check with all earlier ones.

        Raises:
            UserError: one is a duplicate.
        """
        new = np.fromiter(self._new, np.int64, len(self._new))
        if len(self._old):
            found = self._old[np.searchsorted(self._old, new).clip(max=len(self._old) - 1)] == new
            if found.any():
                raise self._twice(*self._new[int(new[found.argmax()])])
        # A stable sort merges two sorted runs.
        self._old = np.sort(np.concatenate([self._old, np.sort(new)]), kind="stable")
        self._new.clear()

    def _twice(self, place: str, clip_id: str) -> UserError:
        return UserError(f"{place}: the clip {shown(clip_id)} is listed a second time; {self._advice}.")


def joined(entries: Iterable[tuple[str, CaptionedClip]]) -> Iterator[CaptionedClip]:
    """Stream clips. Neighboring entries of one clip are one, with the captions of all; they differ in nothing else.

    Args:
        entries: the place of each entry, and its clip.

    Raises:
        UserError: an id occurs twice otherwise.
    """
    ids = UniqueIds("keep one, or put its entries one after the other, and their captions are joined")
    for clip_id, of_clip in groupby(entries, key=lambda entry: entry[1].clip_id):
        (place, clip), *others = of_clip
        captions = list(clip.captions)
        for other_place, other in others:
            if replace(other, captions=clip.captions) != clip:
                raise UserError(
                    f"{other_place}: the clip {shown(clip_id)} is listed a second time, with another file, model, "
                    "times or category than before; give each clip an id of its own."
                )
            captions += other.captions
        ids.add(place, clip_id)
        yield replace(clip, captions=tuple(captions)) if others else clip
    ids.check()

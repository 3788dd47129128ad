"""Whether a clip is listed twice, for lists of millions."""

import numpy as np

from evlvideo.data.annotation.messages import shown
from evlvideo.errors import UserError

_AT_A_TIME = 65_536


class UniqueIds:
    """Takes the ids of clips one by one, and refuses one that came before; at 8 bytes an id, where a set takes 150.

    Ids are told apart by their hashes, of 64 bits. They are held against those before them some thousands at a time, so
    that a second one is refused a little after it came, and :meth:`check` has to be called after the last.
    """

    def __init__(self) -> None:
        self._old = np.empty(0, np.int64)
        self._new: dict[int, tuple[str, str]] = {}

    def add(self, place: str, clip_id: str) -> None:
        """Take an id, which was read at a place.

        Raises:
            UserError: this one, or one of those that were not checked yet, came before.
        """
        key = hash(clip_id)
        if key in self._new:
            raise _twice(place, clip_id)
        self._new[key] = place, clip_id
        if len(self._new) == _AT_A_TIME:
            self.check()

    def check(self) -> None:
        """Hold those taken since the last time against all before them.

        Raises:
            UserError: one is among them.
        """
        new = np.fromiter(self._new, np.int64, len(self._new))
        if len(self._old):
            found = self._old[np.searchsorted(self._old, new).clip(max=len(self._old) - 1)] == new
            if found.any():
                raise _twice(*self._new[int(new[found.argmax()])])
        # Stable, which takes two sorted runs together.
        self._old = np.sort(np.concatenate([self._old, np.sort(new)]), kind="stable")
        self._new.clear()


def _twice(place: str, clip_id: str) -> UserError:
    return UserError(f"{place}: the clip {shown(clip_id)} is there a second time; keep one.")

"""Store many strings in two arrays, which forked processes share since they hold no reference counts."""

from array import array
from collections.abc import Sequence
from typing import Any, overload

import numpy as np


class PackedStrings(Sequence[str]):
    """An immutable sequence of strings, stored as UTF-8.

    Args:
        content: all bytes, as uint8.
        ends: end of each string in `content`, as uint64.
    """

    def __init__(self, content: np.ndarray, ends: np.ndarray) -> None:
        self.content, self.ends = content, ends
        # Indexing memory views is several times as fast as indexing arrays.
        self._bytes, self._ends = content.data, ends.data

    def __len__(self) -> int:
        """Count the strings."""
        return len(self._ends)

    @overload
    def __getitem__(self, number: int) -> str: ...
    @overload
    def __getitem__(self, number: slice) -> list[str]: ...
    def __getitem__(self, number: int | slice) -> str | list[str]:
        """Return a string, or a list of some."""
        if isinstance(number, slice):
            return [self[place] for place in range(*number.indices(len(self)))]
        start = self._ends[number - 1] if number else 0
        return str(self._bytes[start : self._ends[number]], "utf-8", "surrogatepass")

    def __getstate__(self) -> Any:
        """Leave out the views, which cannot be pickled."""
        return np.asarray(self.content), np.asarray(self.ends)

    def __setstate__(self, state: Any) -> None:
        PackedStrings.__init__(self, *state)


class PackedStringsBuilder:
    """Builds packed strings one by one."""

    def __init__(self) -> None:
        self._bytes, self._ends = bytearray(), array("Q")

    def __len__(self) -> int:
        """Count the strings so far."""
        return len(self._ends)

    def append(self, text: str) -> None:
        """Add a string."""
        self._bytes += text.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._bytes))

    def strings(self) -> PackedStrings:
        """Return all strings without a copy; nothing can be added after that."""
        return PackedStrings(np.asarray(memoryview(self._bytes)), np.asarray(self._ends))

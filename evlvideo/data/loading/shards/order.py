"""Shuffle the samples of many shards, a window of shards at a time."""

import bisect
import itertools
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from evlvideo.data.loading.mixture import permuted

WINDOW_SHARDS = 32
"""Shards that are shuffled together.

This many are open, and in the file system's cache, at a time. img2dataset writes shards of 10,000 samples, so a window
shuffles 320,000; streams are commonly shuffled in a buffer of some thousands. A collection of at most this many shards
is shuffled as a whole.
"""

_WALKS_KEPT = 4
_KEY_STEP = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class _Walk:
    """The shards in the order of one walk."""

    shards: Sequence[int]
    """Index of each shard."""
    firsts: Sequence[int]
    """Position at which each shard begins, and the end of the walk."""


class ShardOrder:
    """Walks through all samples: shuffles shards, then samples within windows of shards.

    The order is a function of the shards' sizes and the walk's key, so workers, processes and a resumed run agree
    without communication. It is not stored; a walk keeps a few numbers per shard.

    Args:
        sizes: number of samples in each shard.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.firsts: Sequence[int] = array("q", [0, *itertools.accumulate(sizes)])
        """Index of each shard's first sample, and the number of all samples."""
        self._walks: OrderedDict[int, _Walk] = OrderedDict()

    def number(self, place: int, key: int) -> int:
        """Return the index of the sample at a position of a walk.

        Args:
            place: position, from 0.
            key: selects the walk.

        Raises:
            IndexError: the walk has no such position.
        """
        if not 0 <= place < self.firsts[-1]:
            raise IndexError(f"The position is {place}; a walk has {self.firsts[-1]}.")
        walk = self._walk(key)
        window = (bisect.bisect_right(walk.firsts, place) - 1) // WINDOW_SHARDS
        first = window * WINDOW_SHARDS
        end = min(first + WINDOW_SHARDS, len(walk.shards))
        start, size = walk.firsts[first], walk.firsts[end] - walk.firsts[first]
        place = start + permuted(place - start, size, key + (1 + window) * _KEY_STEP)
        turn = bisect.bisect_right(walk.firsts, place, first, end) - 1
        return self.firsts[walk.shards[turn]] + place - walk.firsts[turn]

    def shard(self, number: int) -> int:
        """Return the index of a sample's shard."""
        return bisect.bisect_right(self.firsts, number) - 1

    def _walk(self, key: int) -> _Walk:
        if key not in self._walks:
            count = len(self.firsts) - 1
            shards = array("q", [permuted(turn, count, key) for turn in range(count)])
            sizes = (self.firsts[shard + 1] - self.firsts[shard] for shard in shards)
            self._walks[key] = _Walk(shards, array("q", [0, *itertools.accumulate(sizes)]))
            if len(self._walks) > _WALKS_KEPT:
                self._walks.popitem(last=False)
        return self._walks[key]

"""The order in which samples of many shards are gone through: at random, but not all over the collection at once."""

import bisect
import itertools
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from evlvideo.data.loading.mixture import permuted

WINDOW_SHARDS = 32
"""Shards that are gone through together.

So many are open, and in the memory of the file system, at a time. Shards as img2dataset writes them have 10,000
samples: two neighbours in a window are as far apart in the shards' own order as 320,000 samples allow, where a stream
is commonly shuffled in a buffer of some thousands. A collection of no more shards is shuffled as a whole.
"""

_WALKS_KEPT = 4
_KEY_STEP = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class _Walk:
    """The shards in the order of one walk."""

    shards: Sequence[int]
    """Number of each shard."""
    firsts: Sequence[int]
    """The place at which each begins, and the end of the walk."""


class ShardOrder:
    """Walks through all samples: shards in an order of the walk, and samples in another within windows of shards.

    Which sample comes at which place is a function of the shards' sizes and the walk's key alone, so that workers,
    processes and a resumed run agree without telling each other. The order is not written down; what is kept of a walk
    is some numbers a shard.

    Args:
        sizes: samples in each shard.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.firsts: Sequence[int] = array("q", [0, *itertools.accumulate(sizes)])
        """The number of each shard's first sample, and of all samples."""
        self._walks: OrderedDict[int, _Walk] = OrderedDict()

    def number(self, place: int, key: int) -> int:
        """Tell which sample comes at a place.

        Args:
            place: from 0.
            key: chooses the walk; each has its own.

        Raises:
            IndexError: the walk has no such place.
        """
        if not 0 <= place < self.firsts[-1]:
            raise IndexError(f"The place is {place}; a walk has {self.firsts[-1]}.")
        walk = self._walk(key)
        window = (bisect.bisect_right(walk.firsts, place) - 1) // WINDOW_SHARDS
        first = window * WINDOW_SHARDS
        end = min(first + WINDOW_SHARDS, len(walk.shards))
        start, size = walk.firsts[first], walk.firsts[end] - walk.firsts[first]
        place = start + permuted(place - start, size, key + (1 + window) * _KEY_STEP)
        turn = bisect.bisect_right(walk.firsts, place, first, end) - 1
        return self.firsts[walk.shards[turn]] + place - walk.firsts[turn]

    def shard(self, number: int) -> int:
        """Tell the shard of a sample."""
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

"""Shuffle the items that a run trains on: those of one dataset, or of several by ratio.

The source of each item is a function of the seed, the epoch and the item's index. So neither the number of workers or
processes nor a resumed run changes it. Loaders take items from first to last; the order is computed item by item, where
a sampler would store all of it.
"""

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import torch
from torch.utils.data import Dataset

from evlvideo.errors import UserError

_MOST_SHARES = 1_000_000
_WORD = (1 << 64) - 1


class Source(Protocol):
    """A dataset that can be mixed. If it has an `in_order(place, key)`, this shuffles its items."""

    def __len__(self) -> int:
        """Count the items."""
        ...

    def item(self, index: int, walk: int) -> dict[str, Any]:
        """Return an item on one walk through the dataset, counted from 0; each walk has its own randomness."""
        ...


class Origin(NamedTuple):
    """The source of an item of a mixture."""

    source: int
    """Index of the source."""
    place: int
    """Index of the item in its source."""
    walk: int
    """Number of complete walks through the source before this one."""


class Mixture(Dataset[dict[str, Any]]):
    """Items of several datasets in given proportions, such as LAION : CCS : COCO = 15 : 4 : 1; or of one, shuffled.

    The mixture is a sequence of blocks. The size of a block is the sum of the ratios in lowest terms. It holds exactly
    the share of each source, shuffled, so the proportions hold in every part of the mixture. Each source is walked
    through in a shuffled order without repetition, across epochs. Every further walk has a new order and newly sampled
    frames, crops and captions.

    An epoch walks once through the source that has the most items for its share, and repeats the others.
    The next epoch continues where it ends. Clip ids should differ between sources, and so that batches can mix them,
    all sources need the same number of frames.

    Args:
        sources: datasets by name.
        ratios: share of each source, by name; numbers above 0, of which only the proportions count.
        seed: seed of the run.
        items_per_step: items of all processes in a step. Epochs are rounded up to whole steps, so that every batch is
            full and a step has the same items for any number of processes.
        one_source_a_step: whether all items of a step come from one source. The blocks are then of steps, in which each
            source has its share, and an epoch covers whole steps of each source.

    Raises:
        UserError: there are no sources, names differ, a source is empty, a ratio is not above 0, or the ratios have no
            small common denominator.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        ratios: Mapping[str, float],
        *,
        seed: int,
        items_per_step: int = 1,
        one_source_a_step: bool = False,
    ) -> None:
        _check(sources, ratios)
        self.names = tuple(sources)
        self.sources = tuple(sources.values())
        self.seed = seed
        self.shares = _shares([ratios[name] for name in self.names])
        self._block = sum(self.shares)
        self._firsts = [0, *itertools.accumulate(self.shares)]
        self._sizes = [len(source) for source in self.sources]
        self._unit = items_per_step if one_source_a_step else 1
        pairs = zip(self._sizes, self.shares, strict=True)
        blocks = max(math.ceil(math.ceil(size / self._unit) / share) for size, share in pairs)
        items = blocks * self._block * self._unit
        self._length = math.ceil(items / items_per_step) * items_per_step
        # In shared memory: workers that outlive an epoch (persistent_workers) must see the next one's number.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, counted from 0."""
        self._epoch.fill_(epoch)

    @property
    def bad_clips(self) -> list[str]:
        """Ids of the clips that could not be decoded so far, of all sources that record them."""
        return [name for source in self.sources for name in getattr(source, "bad_clips", [])]

    def __len__(self) -> int:
        """Count the items of an epoch."""
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return an item of the epoch."""
        source, place, walk = self.origin(index)
        return self.sources[source].item(place, walk)

    def origin(self, index: int) -> Origin:
        """Find the source of an item of this epoch.

        Raises:
            IndexError: the epoch has no such item.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"The index is {index}; an epoch of the mixture has {len(self)} items.")
        unit, offset = divmod(int(self._epoch) * len(self) + index % len(self), self._unit)
        block, place = divmod(unit, self._block)
        slot = permuted(place, self._block, _mixed(self.seed, 0, block))
        source = bisect.bisect_right(self._firsts, slot) - 1
        step = (block * self.shares[source] + slot - self._firsts[source]) * self._unit + offset
        walk, step = divmod(step, self._sizes[source])
        key = _mixed(self.seed, 1 + source, walk)
        in_order = getattr(self.sources[source], "in_order", None)
        return Origin(source, in_order(step, key) if in_order else permuted(step, self._sizes[source], key), walk)


def permuted(index: int, size: int, key: int) -> int:
    """Return an element of a pseudo-random permutation of the numbers below `size`, without storing it.

    A Feistel network permutes all numbers of the same bit length. A result beyond `size` goes through it again, which
    keeps it one to one (Black and Rogaway, Ciphers with Arbitrary Finite Domains, 2002). It takes no memory; a stored
    order of 115 million items would take a gigabyte in every worker. Not for cryptography.

    Args:
        index: from 0 to `size` - 1.
        size: length of the permutation.
        key: selects the permutation.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    round_keys = _round_keys(key)
    while True:
        left, right = index >> half, index & mask
        for round_key in round_keys:
            left, right = right, left ^ (_stirred(round_key, right) & mask)
        index = left << half | right
        if index < size:
            return index


@lru_cache(maxsize=256)
def _round_keys(key: int) -> tuple[int, ...]:
    return tuple(_mixed(key, number) for number in range(6))


def _mixed(*numbers: int) -> int:
    """Hash integers to 64 bits with the steps of SplitMix64."""
    state = 0
    for number in numbers:
        state = _stirred(state, number)
    return state


def _stirred(state: int, number: int) -> int:
    state = (state + number + 0x9E3779B97F4A7C15) & _WORD
    state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _WORD
    state = ((state ^ state >> 27) * 0x94D049BB133111EB) & _WORD
    return state ^ state >> 31


def _shares(ratios: Sequence[float]) -> list[int]:
    """Convert ratios to integers in lowest terms."""
    # From its digits, 0.1 is exactly a tenth.
    fractions = [Fraction(str(ratio)) for ratio in ratios]
    scale = math.lcm(*(fraction.denominator for fraction in fractions))
    shares = [int(fraction * scale) for fraction in fractions]
    divisor = math.gcd(*shares)
    shares = [share // divisor for share in shares]
    if sum(shares) > _MOST_SHARES:
        raise UserError(
            f"The ratios {', '.join(map(str, ratios))} have no small common denominator; round them, for example to "
            "15, 4 and 1."
        )
    return shares


def _check(sources: Mapping[str, Source], ratios: Mapping[str, float]) -> None:
    if not sources:
        raise UserError("The mixture has no sources; name at least one.")
    if sources.keys() != ratios.keys():
        raise UserError(f"The mixture has the sources {', '.join(sources)} and ratios of {', '.join(ratios)}.")
    for name, ratio in ratios.items():
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio < math.inf:
            raise UserError(f"The ratio of {name} is {ratio!r}; ratios are numbers above 0.")
        if not len(sources[name]):
            raise UserError(f"The source {name} of the mixture is empty; leave it out.")

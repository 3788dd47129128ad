"""The items that a run trains on, in their order: of one data set, or of several by ratio.

Where each item comes from is a function of the seed, the epoch and the item's index alone, so that neither the number
of workers or processes nor a resumed run changes it. Whoever loads items takes them from first to last: they are
shuffled here, an item at a time, where a sampler would write the order of all of them down.
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
    """A data set that can be mixed. With an `in_order(place, key)`, it chooses itself what comes where on a walk."""

    def __len__(self) -> int:
        """Count the items."""
        ...

    def item(self, index: int, walk: int) -> dict[str, Any]:
        """Give one item as it is on a walk through the data set, from 0; what is random in it is another on each."""
        ...


class Draw(NamedTuple):
    """Where an item of a mixture comes from."""

    source: int
    """Number of the source."""
    place: int
    """Index in it."""
    walk: int
    """How many times the source was walked through before."""


class Mixture(Dataset[dict[str, Any]]):
    """Items of several data sets in given proportions, such as LAION : CCS : COCO = 15 : 4 : 1; or of one, shuffled.

    The mixture is a row of blocks. A block has as many items as the ratios in lowest terms add up to, of each source
    exactly its share, in an order of its own; so the proportions hold in every stretch of the mixture. Each source is
    walked through in a shuffled order without repetition, across epochs, and once it is exhausted in a new order and
    with new draws of frames, crops and captions.

    An epoch is so long that the source with the most items for its share is walked through once; the others
    are then repeated. The next epoch goes on where it ends. Items are those of the sources, so their clip ids should
    differ between sources, and they should have as many frames where batches mix them.

    Args:
        sources: data sets by name.
        ratios: the share of each, by the same names; numbers above 0, of which only the proportions count.
        seed: seed of the run.
        items_per_step: of all processes. Epochs are made longer to have whole steps, so that every batch is full and
            the same items make a step, whatever number of processes shares them.

    Raises:
        UserError: there are no sources, the names differ, a source is empty, a ratio is not above 0, or the ratios
            have no small common measure.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        ratios: Mapping[str, float],
        *,
        seed: int,
        items_per_step: int = 1,
    ) -> None:
        _check(sources, ratios)
        self.names = tuple(sources)
        self.sources = tuple(sources.values())
        self.seed = seed
        self.shares = _shares([ratios[name] for name in self.names])
        self._block = sum(self.shares)
        self._firsts = [0, *itertools.accumulate(self.shares)]
        self._sizes = [len(source) for source in self.sources]
        pairs = zip(self._sizes, self.shares, strict=True)
        items = max(math.ceil(size / share) for size, share in pairs) * self._block
        self._length = math.ceil(items / items_per_step) * items_per_step
        # In shared memory: workers that outlive an epoch (persistent_workers) must see the next one's number.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, from 0."""
        self._epoch.fill_(epoch)

    @property
    def bad_clips(self) -> list[str]:
        """Names of the clips that could not be decoded so far, of all sources that keep count."""
        return [name for source in self.sources for name in getattr(source, "bad_clips", [])]

    def __len__(self) -> int:
        """Count the items of an epoch."""
        return self._length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Give one item of the source that the index draws from."""
        source, place, walk = self.draw(index)
        return self.sources[source].item(place, walk)

    def draw(self, index: int) -> Draw:
        """Tell where an item of this epoch comes from.

        Raises:
            IndexError: the index is not one of the epoch's.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"The index is {index}; an epoch of the mixture has {len(self)} items.")
        block, place = divmod(int(self._epoch) * len(self) + index % len(self), self._block)
        slot = permuted(place, self._block, _mixed(self.seed, 0, block))
        source = bisect.bisect_right(self._firsts, slot) - 1
        step = block * self.shares[source] + slot - self._firsts[source]
        walk, step = divmod(step, self._sizes[source])
        key = _mixed(self.seed, 1 + source, walk)
        in_order = getattr(self.sources[source], "in_order", None)
        return Draw(source, in_order(step, key) if in_order else permuted(step, self._sizes[source], key), walk)


def permuted(place: int, size: int, key: int) -> int:
    """Shuffle the numbers below `size`: where `place` goes, without writing the order down.

    A Feistel network shuffles the numbers of as many bits; what lands beyond `size` goes through it again until it does
    not, which keeps it one to one (Black and Rogaway, Ciphers with Arbitrary Finite Domains, 2002). It takes no memory,
    where an order of 115 million items would take a gigabyte in every worker. Not meant to keep secrets.

    Args:
        place: a number from 0 to `size` - 1.
        size: how many numbers are shuffled.
        key: chooses the order.
    """
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    turns = _turns(key)
    while True:
        left, right = place >> half, place & mask
        for turn in turns:
            left, right = right, left ^ (_stirred(turn, right) & mask)
        place = left << half | right
        if place < size:
            return place


@lru_cache(maxsize=256)
def _turns(key: int) -> tuple[int, ...]:
    """What the turns of a network begin with: the same for all places, which are many."""
    return tuple(_mixed(key, turn) for turn in range(6))


def _mixed(*numbers: int) -> int:
    """Mix whole numbers to 64 bits that look random, with the steps of SplitMix64."""
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
    """Bring ratios to whole numbers in lowest terms."""
    # By way of its digits, 0.1 is a tenth.
    fractions = [Fraction(str(ratio)) for ratio in ratios]
    scale = math.lcm(*(fraction.denominator for fraction in fractions))
    shares = [int(fraction * scale) for fraction in fractions]
    divisor = math.gcd(*shares)
    shares = [share // divisor for share in shares]
    if sum(shares) > _MOST_SHARES:
        raise UserError(
            f"The ratios {', '.join(map(str, ratios))} have no small common measure; round them, as to 15, 4 and 1."
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

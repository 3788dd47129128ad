"""Which item takes the place of one that cannot be decoded, in training."""

from collections.abc import Iterator

import numpy as np

MOST_DRAWS = 100


def candidates(index: int, count: int, seed: int, walk: int) -> Iterator[int]:
    """Give an item's own index, then others at random, the same ones whichever worker or process asks.

    Args:
        index: of the item; a negative one counts from the end.
        count: how many items there are.
        seed: of the run.
        walk: which walk through the items it is, from 0.

    Raises:
        IndexError: there is no such item; whoever iterates over a data set waits for that.
    """
    if not -count <= index < count:
        raise IndexError(f"The index is {index}; there are {count} items.")
    yield index % count
    generator = np.random.default_rng([seed, walk, index % count])
    yield from generator.integers(count, size=MOST_DRAWS).tolist()

import itertools
import random
import statistics

import pytest

from evlvideo.data.loading.shards import order as shard_order
from evlvideo.data.loading.shards.order import WINDOW_SHARDS, ShardOrder


@pytest.mark.parametrize("shards", [1, 2, 31, 32, 33, 64, 100])
def test_a_walk_comes_to_each_sample_once(shards: int) -> None:
    draw = random.Random(shards)
    order = ShardOrder([draw.randrange(1, 40) for _ in range(shards)])
    count = order.firsts[-1]
    for key in (0, 1, -5, 1 << 63):
        assert sorted(order.number(place, key) for place in range(count)) == list(range(count))


EXPECTED = [13, 99, 110, 67, 81, 107, 61, 71, 101, 73, 27, 14]


def test_the_order_is_a_function_of_sizes_and_key_alone() -> None:
    # Written down: a run that is resumed with a newer version goes on in the order in which it began.
    order = ShardOrder([3] * 40)
    assert [order.number(place, 7) for place in range(12)] == EXPECTED
    assert [ShardOrder([3] * 40).number(place, 7) for place in reversed(range(12))] == EXPECTED[::-1]


def test_walks_differ() -> None:
    order = ShardOrder([5] * 100)
    walks = [[order.number(place, key) for place in range(500)] for key in range(4)]
    for one, other in itertools.pairwise(walks):
        assert sum(a == b for a, b in zip(one, other, strict=True)) < 10


def test_few_shards_are_open_at_a_time() -> None:
    order = ShardOrder([50] * 200)
    shards = [order.shard(order.number(place, 3)) for place in range(200 * 50)]
    for start in range(0, len(shards), 1000):
        assert len(set(shards[start : start + 1000])) <= 2 * WINDOW_SHARDS
    window = 50 * WINDOW_SHARDS
    assert all(len(set(shards[start : start + window])) <= WINDOW_SHARDS for start in range(0, len(shards), window))


def test_a_batch_comes_from_many_shards() -> None:
    order = ShardOrder([1000] * 100)
    distinct = [len({order.shard(order.number(start + k, 5)) for k in range(64)}) for start in range(0, 6400, 64)]
    # 64 draws of 32 shards: 32 × (1 − (31/32)^64) = 27.8.
    assert statistics.mean(distinct) == pytest.approx(27.8, abs=0.6)


def test_no_more_shards_than_a_window_are_shuffled_as_a_whole() -> None:
    order = ShardOrder([100] * WINDOW_SHARDS)
    first = [order.number(place, 1) for place in range(400)]
    # Uniform over all samples: mean 1,599.5, standard deviation of the mean 46.
    assert statistics.mean(first) == pytest.approx(1599.5, abs=150)
    assert len({number // 100 for number in first}) == WINDOW_SHARDS


def test_what_is_kept_does_not_grow() -> None:
    order = ShardOrder([1] * 50)
    for key in range(100):
        order.number(0, key)
    assert len(order._walks) == shard_order._WALKS_KEPT


@pytest.mark.parametrize("place", [-1, 6])
def test_a_place_outside_the_walk_is_refused(place: int) -> None:
    with pytest.raises(IndexError, match="a walk has 6"):
        ShardOrder([3, 3]).number(place, 0)

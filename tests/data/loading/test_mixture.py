import itertools
import tracemalloc
from collections import Counter
from typing import Any

import pytest
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from evlvideo.data.loading.mixture import Mixture, permuted
from evlvideo.errors import UserError

RATIOS = {"laion": 15, "ccs": 4, "coco": 1}
SIZES = {"laion": 200, "ccs": 37, "coco": 11}


class Numbers:
    """Items that tell where they come from."""

    def __init__(self, name: str, size: int) -> None:
        self.name, self.size = name, size

    def __len__(self) -> int:
        return self.size

    def item(self, index: int, walk: int) -> dict[str, Any]:
        assert 0 <= index < self.size
        return {"clip_id": f"{self.name}-{index}", "walk": walk}


def mixture(sizes: dict[str, int] = SIZES, ratios: dict[str, float] = RATIOS, **options: Any) -> Mixture:
    sources = {name: Numbers(name, size) for name, size in sizes.items()}
    return Mixture(sources, ratios, **{"seed": 0, **options})


def epoch_of(mixed: Mixture, epoch: int = 0) -> list[str]:
    mixed.set_epoch(epoch)
    return [mixed[index]["clip_id"] for index in range(len(mixed))]


def test_every_block_has_each_sources_share() -> None:
    names = [clip_id.partition("-")[0] for clip_id in epoch_of(mixture())]
    for first in range(0, len(names), 20):
        assert Counter(names[first : first + 20]) == RATIOS


def test_blocks_have_orders_of_their_own() -> None:
    names = [clip_id.partition("-")[0] for clip_id in epoch_of(mixture())]
    assert len({tuple(names[first : first + 20]) for first in range(0, len(names), 20)}) > len(names) // 20 // 2


@settings(deadline=None, max_examples=30)
@given(
    shares=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    sizes=st.lists(st.integers(1, 40), min_size=4, max_size=4),
    seed=st.integers(0, 2**63),
)
def test_each_walk_through_a_source_is_complete(shares: list[int], sizes: list[int], seed: int) -> None:
    names = [f"s{number}" for number in range(len(shares))]
    mixed = mixture(dict(zip(names, sizes, strict=False)), dict(zip(names, shares, strict=True)), seed=seed)
    drawn: dict[int, Counter[int]] = {source: Counter() for source in range(len(names))}
    for epoch in range(2):
        mixed.set_epoch(epoch)
        for source, place, _ in map(mixed.origin, range(len(mixed))):
            drawn[source][place] += 1
    for source, counts in drawn.items():
        walks, rest = divmod(sum(counts.values()), sizes[source])
        expected = Counter({walks + 1: rest, walks: sizes[source] - rest})
        assert Counter(counts.get(place, 0) for place in range(sizes[source])) == +expected


def test_an_epoch_walks_through_the_source_with_the_most_items_for_its_share() -> None:
    mixed = mixture()
    assert len(mixed) == 14 * 20  # 200 items, 15 a block
    assert {clip_id for clip_id in epoch_of(mixed) if "laion" in clip_id} == {f"laion-{k}" for k in range(200)}


@pytest.mark.parametrize("items", [1, 8, 50])
def test_a_step_can_be_of_one_source_with_the_ratios_in_steps(items: int) -> None:
    mixed = mixture(items_per_step=items, one_source_a_step=True)
    assert len(mixed) % (20 * items) == 0
    names = [clip_id.partition("-")[0] for clip_id in epoch_of(mixed) + epoch_of(mixed, 1)]
    steps = [names[first : first + items] for first in range(0, len(names), items)]
    assert all(len(set(step)) == 1 for step in steps)
    for first in range(0, len(steps), 20):
        assert Counter(step[0] for step in steps[first : first + 20]) == RATIOS


@pytest.mark.parametrize("items", [1, 7, 64])
def test_steps_of_one_source_walk_through_it_without_repetition(items: int) -> None:
    mixed = mixture(items_per_step=items, one_source_a_step=True)
    drawn = []
    for epoch in range(3):
        mixed.set_epoch(epoch)
        drawn += map(mixed.origin, range(len(mixed)))
    assert len(set(drawn)) == len(drawn)  # no item twice in a walk
    for source, size in enumerate(SIZES.values()):
        walks = Counter(origin.walk for origin in drawn if origin.source == source)
        whole = sum(walks.values()) // size
        assert whole > 0 and all(walks[walk] == size for walk in range(whole))


def test_steps_of_one_source_are_the_same_for_any_number_of_workers_and_processes() -> None:
    mixed = mixture(items_per_step=8, one_source_a_step=True)
    expected = epoch_of(mixed)
    loader = DataLoader(mixed, batch_size=4, num_workers=2)
    assert [clip_id for batch in loader for clip_id in batch["clip_id"]] == expected
    batches = BatchSampler(SequentialSampler(mixed), 4, drop_last=False)
    of_processes = [list(BatchSamplerShard(batches, 2, process)) for process in range(2)]
    together = [index for pair in zip(*of_processes, strict=True) for batch in pair for index in batch]
    assert [mixed[index]["clip_id"] for index in together] == expected


def test_one_source_alone_has_the_same_order_either_way() -> None:
    orders = [
        epoch_of(mixture({"only": 50}, {"only": 1}, items_per_step=10, one_source_a_step=chosen))
        for chosen in (False, True)
    ]
    assert orders[0] == orders[1]


def test_epochs_go_on_where_the_last_one_stopped() -> None:
    mixed = mixture({"large": 100, "small": 10}, {"large": 1, "small": 1}, items_per_step=150)
    drawn = [clip_id for epoch in range(2) for clip_id in epoch_of(mixed, epoch) if "large" in clip_id]
    for first in (0, 100, 200):  # an epoch has 300 items, and ends in the middle of a walk
        assert sorted(drawn[first : first + 100]) == sorted(f"large-{k}" for k in range(100))


def test_walks_differ() -> None:
    mixed = mixture({"only": 50}, {"only": 1})
    assert epoch_of(mixed, 0) != epoch_of(mixed, 1)


def test_seeds_differ() -> None:
    assert epoch_of(mixture(seed=0)) != epoch_of(mixture(seed=1))


def test_items_do_not_depend_on_what_was_asked_before() -> None:
    mixed = mixture()
    forwards = epoch_of(mixed)
    assert [mixed[index]["clip_id"] for index in reversed(range(len(mixed)))] == forwards[::-1]
    assert epoch_of(mixed, 3) == epoch_of(mixture(), 3)


def test_workers_change_nothing() -> None:
    def drawn(workers: int) -> list[list[str]]:
        mixed = mixture()
        loader = DataLoader(mixed, batch_size=10, num_workers=workers, persistent_workers=workers > 0)
        epochs = []
        for epoch in range(2):
            mixed.set_epoch(epoch)
            epochs.append([clip_id for batch in loader for clip_id in batch["clip_id"]])
        return epochs

    assert drawn(0) == drawn(2)


def test_sources_are_told_which_walk_it_is() -> None:
    mixed = mixture({"large": 30, "small": 7}, {"large": 1, "small": 1})
    drawn: Counter[tuple[str, int]] = Counter()
    for epoch in range(2):
        mixed.set_epoch(epoch)
        drawn.update((item["clip_id"], item["walk"]) for item in map(mixed.__getitem__, range(len(mixed))))
    # No item comes twice on a walk: 60 items are 8 walks of 7 and the beginning of another.
    assert set(drawn.values()) == {1}
    walks = Counter(walk for clip_id, walk in drawn if "small" in clip_id)
    assert walks == dict.fromkeys(range(8), 7) | {8: 4}


def test_one_source_is_walked_through_once_an_epoch() -> None:
    mixed = mixture({"only": 50}, {"only": 1})
    for epoch in range(2):
        mixed.set_epoch(epoch)
        items = [mixed[index] for index in range(50)]
        assert {item["walk"] for item in items} == {epoch}
        assert {item["clip_id"] for item in items} == {f"only-{k}" for k in range(50)}
        assert [item["clip_id"] for item in items] != [f"only-{k}" for k in range(50)]


def batches_of(mixed: Mixture, batch_size: int, processes: int = 1, process: int = 0, skip: int = 0) -> list[list[str]]:
    """Batches of one process, from the samplers that training has."""
    batches: Any = BatchSampler(SequentialSampler(mixed), batch_size, drop_last=False)
    if processes > 1:
        batches = BatchSamplerShard(batches, processes, process)
    return [[mixed[index]["clip_id"] for index in batch] for batch in SkipBatchSampler(batches, skip)]


def test_every_batch_has_each_sources_share_where_blocks_divide_it() -> None:
    mixed = mixture({"large": 700, "small": 90}, {"large": 3, "small": 1}, items_per_step=2 * 64)
    for process in range(2):
        batches = batches_of(mixed, 64, processes=2, process=process)
        assert len(batches) == 8  # 700 items at 3 of 4 are 936, in steps of 128
        for batch in batches:
            assert Counter(clip_id.partition("-")[0] for clip_id in batch) == {"large": 48, "small": 16}


@pytest.mark.parametrize(("batch_size", "processes"), [(8, 1), (4, 2), (2, 4), (1, 8)])
def test_processes_share_the_items_that_one_would_have(batch_size: int, processes: int) -> None:
    whole = mixture({"a": 50, "b": 9}, {"a": 2, "b": 1}, items_per_step=8)
    for epoch in range(2):
        whole.set_epoch(epoch)
        shares = [batches_of(whole, batch_size, processes, process) for process in range(processes)]
        steps = [list(itertools.chain(*batches)) for batches in zip(*shares, strict=True)]
        assert steps == batches_of(whole, 8)
        assert all(len(step) == 8 for step in steps)


def test_no_item_comes_twice_where_an_epoch_has_been_made_whole_steps() -> None:
    mixed = mixture({"only": 50}, {"only": 1}, items_per_step=8)
    assert len(mixed) == 56
    drawn = [clip_id for epoch in range(2) for clip_id in epoch_of(mixed, epoch)]
    assert len(set(drawn[:50])) == len(set(drawn[50:100])) == 50


def test_batches_that_a_resumed_run_skips_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = mixture()
    expected = batches_of(mixed, 10)[17:]
    drawn: list[int] = []
    original = Mixture.origin
    monkeypatch.setattr(Mixture, "origin", lambda self, index: drawn.append(index) or original(self, index))  # type: ignore[func-returns-value]
    assert batches_of(mixed, 10, skip=17) == expected
    assert drawn == list(range(170, 280))


def test_neither_memory_nor_much_time_goes_to_the_order_of_a_hundred_million_items() -> None:
    mixed = mixture({"large": 100_000_000, "small": 1000}, {"large": 3, "small": 1}, items_per_step=64)
    batches = BatchSampler(SequentialSampler(mixed), 64, drop_last=False)
    tracemalloc.start()
    later = next(iter(SkipBatchSampler(batches, 10_000)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(mixed) > 133_000_000
    assert len({mixed[index]["clip_id"] for index in later}) == 64
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("ratios", "shares"),
    [
        ([15, 4, 1], (15, 4, 1)),
        ([0.75, 0.2, 0.05], (15, 4, 1)),
        ([30, 8, 2.0], (15, 4, 1)),
        ([0.1, 0.1, 1e-1], (1, 1, 1)),
    ],
)
def test_only_proportions_count(ratios: list[float], shares: tuple[int, ...]) -> None:
    assert tuple(mixture(ratios=dict(zip(SIZES, ratios, strict=True))).shares) == shares


def test_an_epoch_may_end_within_a_block() -> None:
    mixed = mixture(items_per_step=290)
    assert len(mixed) == 290
    names = [clip_id.partition("-")[0] for epoch in range(2) for clip_id in epoch_of(mixed, epoch)]
    for first in range(0, 580, 20):
        assert Counter(names[first : first + 20]) == RATIOS


def test_indices_end_with_the_epoch() -> None:
    mixed = mixture()
    assert mixed[-1] == mixed[len(mixed) - 1]
    with pytest.raises(IndexError, match="an epoch of the mixture has 280 items"):
        mixed[280]


@pytest.mark.parametrize(
    ("sizes", "options", "message"),
    [
        ({}, {"ratios": {}}, "has no sources"),
        ({"a": 1}, {"ratios": {"b": 1}}, "has the sources a and ratios of b"),
        ({"a": 0}, {"ratios": {"a": 1}}, "The source a of the mixture is empty"),
        ({"a": 1}, {"ratios": {"a": 0}}, "The ratio of a is 0; ratios are numbers above 0"),
        ({"a": 1}, {"ratios": {"a": float("nan")}}, "The ratio of a is nan"),
        ({"a": 1}, {"ratios": {"a": "1"}}, "The ratio of a is '1'"),
        ({"a": 1, "b": 1}, {"ratios": {"a": 0.123456789, "b": 1}}, "no small common denominator"),
    ],
)
def test_mixtures_that_make_no_sense_are_refused(sizes: Any, options: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        mixture(sizes, **options)


@given(size=st.integers(1, 300), key=st.integers(0, 2**64 - 1))
def test_permutations_are_one_to_one(size: int, key: int) -> None:
    assert sorted(permuted(place, size, key) for place in range(size)) == list(range(size))


def test_permutations_of_few_are_all_as_likely() -> None:
    orders = Counter(tuple(permuted(place, 4, key) for place in range(4)) for key in range(24_000))
    assert len(orders) == 24
    assert min(orders.values()) > 800
    assert max(orders.values()) < 1200


def test_large_sources_are_permuted_without_writing_the_order_down() -> None:
    places = [permuted(place, 115_000_000, 7) for place in range(1000)]
    assert len(set(places)) == 1000
    assert 0.4 < sum(places) / 1000 / 115_000_000 < 0.6

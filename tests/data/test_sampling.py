import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evlvideo.data.sampling import SAMPLERS, headtail, uniform


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("frames", "count", "expected"),
    [(100, 4, [0, 25, 50, 75]), (10, 4, [0, 2, 5, 7]), (4, 4, [0, 1, 2, 3]), (10, 1, [0]), (299, 3, [0, 99, 199])],
)
def test_uniform_takes_the_start_of_each_equal_part(frames: int, count: int, expected: list[int]) -> None:
    assert uniform(frames, 25.0, count) == expected


@pytest.mark.parametrize(("frames", "expected"), [(3, [0, 0, 1, 2]), (2, [0, 0, 1, 1]), (1, [0, 0, 0, 0])])
def test_uniform_repeats_frames_of_a_short_clip(frames: int, expected: list[int]) -> None:
    assert uniform(frames, 25.0, 4) == expected


def test_headtail_draws_half_from_each_half() -> None:
    for seed in range(50):
        drawn = headtail(20, 25.0, 6, generator(seed))
        assert all(index < 10 for index in drawn[:3])
        assert all(10 <= index < 20 for index in drawn[3:])


def test_headtail_reaches_every_frame() -> None:
    assert {index for seed in range(200) for index in headtail(12, 25.0, 4, generator(seed))} == set(range(12))


def test_headtail_draws_without_replacement_where_it_can() -> None:
    assert headtail(8, 25.0, 8, generator()) == list(range(8))


def test_headtail_takes_the_odd_frame_from_the_second_half() -> None:
    drawn = headtail(10, 25.0, 5, generator())
    assert sum(index < 5 for index in drawn) == 2
    assert headtail(10, 25.0, 1, generator())[0] >= 5


@pytest.mark.parametrize(("frames", "expected"), [(1, [0, 0, 0, 0]), (2, [0, 0, 1, 1]), (3, [0, 0, 1, 2])])
def test_headtail_repeats_frames_of_a_short_clip(frames: int, expected: list[int]) -> None:
    assert headtail(frames, 25.0, 4, generator()) == expected


def test_headtail_is_the_generators() -> None:
    assert headtail(300, 25.0, 8, generator(3)) == headtail(300, 25.0, 8, generator(3))
    assert headtail(300, 25.0, 8, generator(3)) != headtail(300, 25.0, 8, generator(4))


@given(name=st.sampled_from(sorted(SAMPLERS)), frames=st.integers(1, 400), count=st.integers(1, 40))
def test_samplers_give_sorted_indices_inside_the_clip(name: str, frames: int, count: int) -> None:
    indices = SAMPLERS[name](frames, 25.0, count, generator())
    assert len(indices) == count
    assert indices == sorted(indices)
    assert indices[0] >= 0
    assert indices[-1] < frames


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(("frames", "count"), [(0, 4), (4, 0)])
def test_samplers_refuse_nothing(name: str, frames: int, count: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        SAMPLERS[name](frames, 25.0, count, generator())

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evlvideo.data.video.sampling import SAMPLERS, fps, headtail, segment_middles, segments, uniform

AT_25 = np.arange(400) / 25
"""Times that these samplers pass over."""


def times(frames: int, rate: float) -> np.ndarray:
    return np.arange(frames) / rate if rate else np.zeros(frames)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("frames", "count", "expected"),
    [(100, 4, [0, 25, 50, 75]), (10, 4, [0, 2, 5, 7]), (4, 4, [0, 1, 2, 3]), (10, 1, [0]), (299, 3, [0, 99, 199])],
)
def test_uniform_takes_the_start_of_each_equal_part(frames: int, count: int, expected: list[int]) -> None:
    assert uniform(frames, AT_25, count) == expected


@pytest.mark.parametrize(("frames", "expected"), [(3, [0, 0, 1, 2]), (2, [0, 0, 1, 1]), (1, [0, 0, 0, 0])])
def test_uniform_repeats_frames_of_a_short_clip(frames: int, expected: list[int]) -> None:
    assert uniform(frames, AT_25, 4) == expected


def test_headtail_draws_half_from_each_half() -> None:
    for seed in range(50):
        drawn = headtail(20, AT_25, 6, generator(seed))
        assert all(index < 10 for index in drawn[:3])
        assert all(10 <= index < 20 for index in drawn[3:])


def test_headtail_reaches_every_frame() -> None:
    assert {index for seed in range(200) for index in headtail(12, AT_25, 4, generator(seed))} == set(range(12))


def test_headtail_draws_without_replacement_where_it_can() -> None:
    assert headtail(8, AT_25, 8, generator()) == list(range(8))


def test_headtail_takes_the_odd_frame_from_the_second_half() -> None:
    drawn = headtail(10, AT_25, 5, generator())
    assert sum(index < 5 for index in drawn) == 2
    assert headtail(10, AT_25, 1, generator())[0] >= 5


@pytest.mark.parametrize(("frames", "expected"), [(1, [0, 0, 0, 0]), (2, [0, 0, 1, 1]), (3, [0, 0, 1, 2])])
def test_headtail_repeats_frames_of_a_short_clip(frames: int, expected: list[int]) -> None:
    assert headtail(frames, AT_25, 4, generator()) == expected


def test_headtail_is_the_generators() -> None:
    assert headtail(300, AT_25, 8, generator(3)) == headtail(300, AT_25, 8, generator(3))
    assert headtail(300, AT_25, 8, generator(3)) != headtail(300, AT_25, 8, generator(4))


ALL = {**SAMPLERS, "5fps": fps(5), "100fps": fps(100)}


@given(
    name=st.sampled_from(sorted(ALL)),
    frames=st.integers(1, 400),
    rate=st.sampled_from([0.0, 1.0, 12.5, 25.0, 30000 / 1001, 240.0]),
    count=st.integers(1, 40),
    seed=st.integers(0, 2**32),
)
def test_samplers_give_sorted_indices_inside_the_clip(
    name: str, frames: int, rate: float, count: int, seed: int
) -> None:
    for draw in (generator(seed), None):
        indices = ALL[name](frames, times(frames, rate), count, draw)
        assert len(indices) == count
        assert all(isinstance(index, int) for index in indices)
        assert indices == sorted(indices)
        assert indices[0] >= 0
        assert indices[-1] < frames


@given(name=st.sampled_from(sorted(ALL)), frames=st.integers(1, 400), count=st.integers(1, 40), seed=st.integers(0, 99))
def test_samplers_draw_from_the_generator_alone(name: str, frames: int, count: int, seed: int) -> None:
    first = ALL[name](frames, times(frames, 25), count, generator(seed))
    torch.rand(3)
    assert ALL[name](frames, times(frames, 25), count, generator(seed)) == first


@given(name=st.sampled_from(["headtail", "segments"]), count=st.integers(1, 40), more=st.integers(0, 100))
def test_long_clips_give_no_frame_twice(name: str, count: int, more: int) -> None:
    frames = 2 * count + more
    assert len(set(SAMPLERS[name](frames, AT_25, count, generator()))) == count


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("frames", "count"), [(0, 4), (4, 0)])
def test_samplers_refuse_nothing(name: str, frames: int, count: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        ALL[name](frames, times(frames, 25), count, generator())


def test_segments_draws_one_frame_of_each_segment() -> None:
    drawn = [segments(20, AT_25, 4, generator(seed)) for seed in range(200)]
    for place in range(4):
        assert {indices[place] for indices in drawn} == set(range(5 * place, 5 * place + 5))


@pytest.mark.parametrize(
    ("frames", "count", "expected"),
    [(20, 4, [2, 7, 12, 17]), (10, 3, [1, 4, 7]), (4, 4, [0, 1, 2, 3]), (3, 4, [0, 0, 1, 2]), (1, 3, [0, 0, 0])],
)
def test_segments_without_a_generator_are_their_middles(frames: int, count: int, expected: list[int]) -> None:
    assert segments(frames, AT_25, count, None) == expected
    assert segment_middles(frames, AT_25, count, generator(5)) == expected


def test_fps_spaces_frames_by_time() -> None:
    for seed in range(20):
        indices = fps(2)(300, times(300, 30), 4, generator(seed))
        assert [later - earlier for earlier, later in itertools.pairwise(indices)] == [15, 15, 15]
    assert len({fps(2)(300, times(300, 30), 4, generator(seed))[0] for seed in range(20)}) > 5


def test_fps_without_a_generator_takes_the_middle_of_the_clip() -> None:
    # Frames 0 to 90 of 101 are 5 frames too few on either side.
    assert fps(1)(101, times(101, 30), 4, None) == [5, 35, 65, 95]


def test_fps_of_a_rate_that_is_no_multiple_drifts_no_further_than_a_frame() -> None:
    indices = fps(4)(1000, times(1000, 30), 40, None)
    assert all(abs(index - indices[0] - 7.5 * place) < 1 for place, index in enumerate(indices))


@pytest.mark.parametrize(("frames", "rate"), [(90, 30.0), (30, 0.5), (1, 0.0)])
def test_fps_spreads_over_a_clip_that_is_too_short_or_too_slow(frames: int, rate: float) -> None:
    assert fps(1)(frames, times(frames, rate), 4, generator()) == uniform(frames, times(frames, rate), 4)


@given(
    frames=st.integers(1, 1000),
    rate=st.sampled_from([10.0, 12.5, 24000 / 1001, 25.0, 30000 / 1001, 30.0, 60.0]),
    wanted=st.sampled_from([1, 2, 4]),
    count=st.integers(1, 16),
    seed=st.none() | st.integers(0, 99),
)
def test_fps_counts_frames_where_their_rate_is_constant(
    frames: int, rate: float, wanted: int, count: int, seed: int | None
) -> None:
    seconds = times(frames, rate)
    draw = [None if seed is None else generator(seed) for _ in range(2)]
    step = rate / wanted
    span = int((count - 1) * step + 0.02) + 1
    given_ = fps(wanted)(frames, seconds, count, draw[0])
    if span > frames:
        assert given_ == uniform(frames, seconds, count)
        return
    first = segments(frames - span + 1, seconds, 1, draw[1])[0]
    assert given_ == [first + int(place * step + 0.02) for place in range(count)]


@pytest.mark.parametrize("rate", [24, 30, 50, 60])
def test_fps_of_times_in_milliseconds_misses_no_frame(rate: int) -> None:
    # Matroska rounds.
    for seed in range(50):
        indices = fps(2)(rate * 10, np.round(times(rate * 10, rate), 3), 8, generator(seed))
        assert [later - earlier for earlier, later in itertools.pairwise(indices)] == [rate // 2] * 7


UNEVEN = np.concatenate([np.arange(51) / 50, np.arange(2, 11)])
"""Fifty frames in the first second, then one in each."""


def test_fps_is_by_time_where_the_rate_varies() -> None:
    for seed in range(30):
        seconds = UNEVEN[fps(1)(60, UNEVEN, 4, generator(seed))]
        shown = [UNEVEN[moment + 1e-3 >= UNEVEN].max() for moment in seconds[0] + np.arange(4)]
        assert seconds.tolist() == shown
    assert UNEVEN[fps(1)(60, UNEVEN, 4, None)].tolist() == [3, 4, 5, 6]
    assert UNEVEN[fps(1)(60, UNEVEN, 8, None)].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


def test_fps_repeats_a_frame_that_stays_on_the_screen() -> None:
    paused = np.concatenate([np.arange(10) / 10, [60, 60.1]])
    assert paused[fps(1)(12, paused, 4, None)].tolist() == [0.4, 0.9, 0.9, 0.9]


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        fps(rate)

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evlvideo.corpus.films.windows import windows
from evlvideo.errors import UserError


def test_windows_follow_each_other() -> None:
    assert windows(0, 30, 10) == [(0, 10), (10, 20), (20, 30)]


def test_windows_overlap_with_the_next() -> None:
    assert windows(0, 30, 10, 2) == [(0, 10), (8, 18), (16, 26), (24, 30)]


def test_a_film_shorter_than_a_window_is_one() -> None:
    assert windows(0, 4.2, 10, 2) == [(0, 4.2)]


def test_a_last_sliver_belongs_to_the_window_before() -> None:
    assert windows(0, 32.4, 10) == [(0, 10), (10, 20), (20, 32.4)]
    assert windows(0, 32.6, 10) == [(0, 10), (10, 20), (20, 30), (30, 32.6)]
    assert windows(0, 26.1, 10, 2) == [(0, 10), (8, 18), (16, 26.1)]


def test_windows_of_a_part_stay_within_it() -> None:
    assert windows(61.5, 81.5, 10) == [(61.5, 71.5), (71.5, 81.5)]


def test_a_film_that_lasts_no_time_has_none() -> None:
    assert windows(0, 0, 10) == windows(5, 3, 10) == []


@given(
    start=st.floats(0, 1e4),
    duration=st.floats(0.01, 500),
    length=st.floats(0.5, 600),
    overlap=st.floats(0, 0.5),
)
def test_every_moment_is_in_a_window_and_none_is_much_longer(
    start: float, duration: float, length: float, overlap: float
) -> None:
    found = windows(start, start + duration, length, overlap * length)
    assert found[0][0] == pytest.approx(start, abs=1e-3)
    assert found[-1][1] == pytest.approx(start + duration, abs=1e-3)
    assert all(before[0] < after[0] <= before[1] for before, after in pairwise(found))
    assert all(0.009 < end - first <= 1.25 * length + 0.002 for first, end in found)
    assert all(end - first >= min(length, duration) / 4 - 0.002 for first, end in found)


@pytest.mark.parametrize("length", [0, -1, 0.05, float("inf"), float("nan")])
def test_a_window_lasts_some_time(length: float) -> None:
    with pytest.raises(UserError, match=r"A window is .* seconds long; it must be at least 0\.1\."):
        windows(0, 30, length)


@pytest.mark.parametrize("overlap", [-1, 5.1, 10, float("nan")])
def test_windows_overlap_by_at_most_half(overlap: float) -> None:
    with pytest.raises(UserError, match="they must overlap by 0 to 5, half of a window"):
        windows(0, 30, 10, overlap)

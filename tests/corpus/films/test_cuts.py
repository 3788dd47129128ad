"""Changes of shot, in pictures whose shots are known."""

from collections.abc import Iterator

import numpy as np
import pytest

from evlvideo.corpus.films.cuts import CONTEXT, RATE, find_cuts, find_cuts_in_blocks, resolve

SIDE = 16
RED, GREEN = (200, 60, 60), (60, 129, 60)
"""Of the same brightness, 0.299 R + 0.587 G + 0.114 B."""


def textured(seed: int, count: int = 40, noise: float = 2.0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    picture = draw.uniform(20, 235, (4, 4, 3)).repeat(4, axis=0).repeat(4, axis=1)
    return clipped(picture + draw.normal(0, noise, (count, SIDE, SIDE, 3)))


def plain(color: tuple[int, int, int], count: int = 40) -> np.ndarray:
    return np.full((count, SIDE, SIDE, 3), color, np.uint8)


def clipped(pictures: np.ndarray) -> np.ndarray:
    return np.clip(pictures, 0, 255).astype(np.uint8)


def panned(seed: int, count: int, pictures_a_second: float) -> np.ndarray:
    wide = np.random.default_rng(seed).uniform(20, 235, (4, 256, 3)).repeat(4, axis=0).repeat(4, axis=1)
    places = (np.arange(count) * SIDE * pictures_a_second / RATE).astype(int)
    return clipped(np.stack([wide[:, place : place + SIDE] for place in places]))


def places(pictures: np.ndarray) -> list[int]:
    return [cut.place for cut in resolve(find_cuts(pictures), RATE)]


def dissolved(before: np.ndarray, after: np.ndarray, count: int) -> np.ndarray:
    share = ((np.arange(count) + 1) / (count + 1))[:, None, None, None]
    return np.concatenate([before, clipped(before[-1:] * (1 - share) + after[:1] * share), after])


def faded(before: np.ndarray, after: np.ndarray, count: int, black: int = 0) -> np.ndarray:
    share = ((np.arange(count) + 1) / (count + 1))[:, None, None, None]
    parts = [before, before[-1:] * (1 - share), np.zeros_like(before[:black]), after[:1] * share, after]
    return clipped(np.concatenate(parts))


def test_a_hard_cut_is_found_where_it_is() -> None:
    assert places(np.concatenate([textured(1, 40), textured(2, 30), textured(3, 50)])) == [40, 70]


def test_a_cut_between_colors_of_equal_brightness_is_found() -> None:
    weights = (0.299, 0.587, 0.114)
    assert np.dot(weights, RED) == pytest.approx(np.dot(weights, GREEN), abs=2)
    assert places(np.concatenate([plain(RED), plain(GREEN)])) == [40]


def test_the_same_shot_has_no_cut() -> None:
    assert places(textured(1, 200, noise=12)) == []
    assert places(textured(1, 1)) == places(textured(1, 0)) == []


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("white", [255, 0])
def test_a_flash_is_no_cut(count: int, white: int) -> None:
    pictures = textured(1, 100)
    pictures[50 : 50 + count] = white
    assert places(pictures) == []


def test_a_longer_flash_and_a_short_blackout_are_no_cut() -> None:
    pictures = textured(1, 100)
    pictures[50:56] = 255
    assert places(pictures) == []
    pictures[50:58] = 0
    assert places(pictures) == []


@pytest.mark.parametrize("pictures_a_second", [0.1, 0.5, 1, 2])
def test_a_pan_is_no_cut(pictures_a_second: float) -> None:
    assert places(panned(1, 100, pictures_a_second)) == []


def test_a_flash_during_a_pan_is_no_cut() -> None:
    pictures = panned(1, 100, 0.5)
    pictures[50] = 250
    assert places(pictures) == []


def test_a_cut_into_a_pan_is_found() -> None:
    assert places(np.concatenate([textured(5, 40), panned(1, 60, 0.5)])) == [40]


def test_a_small_object_that_appears_is_no_cut() -> None:
    pictures = textured(1, 100)
    pictures[50:, 4:10, 4:10] = (255, 0, 0)
    assert places(pictures) == []


def test_a_change_of_light_is_no_cut() -> None:
    light = np.interp(np.arange(120), [0, 50, 60, 80, 120], [1, 1, 0.35, 0.35, 1])[:, None, None, None]
    assert places(clipped(textured(1, 120) * light)) == []
    assert places(clipped(plain(RED, 120) * light)) == []


@pytest.mark.parametrize("count", [5, 10, 15, 20, 30])
def test_a_dissolve_is_one_change_at_its_middle(count: int) -> None:
    found = places(dissolved(textured(1, 60), textured(2, 60), count))
    assert found == [pytest.approx(60 + count / 2, abs=RATE / 2)]


@pytest.mark.parametrize("count", [3, 5, 8, 12])
@pytest.mark.parametrize("black", [0, 5, 20])
def test_a_fade_through_black_is_one_change_at_its_middle(count: int, black: int) -> None:
    found = places(faded(textured(1, 60), textured(2, 60), count, black))
    assert found == [pytest.approx(60 + count + black / 2, abs=RATE / 2)]


def test_of_two_changes_within_the_shortest_shot_one_remains() -> None:
    pictures = np.concatenate([textured(1, 40), textured(2, 6), textured(3, 40)])
    assert [cut.place for cut in find_cuts(pictures)] == [40, 46]
    assert len(places(pictures)) == 1


@pytest.mark.parametrize("block", [7, 64, CONTEXT, 1000])
def test_blocks_make_no_difference(block: int) -> None:
    pictures = np.concatenate([textured(seed, 37 + seed) for seed in range(12)])
    pictures = np.concatenate([dissolved(pictures, textured(50, 60), 12), panned(1, 90, 0.5)])
    blocks = [pictures[start : start + block] for start in range(0, len(pictures), block)]
    whole = [cut.place for cut in find_cuts(pictures)]
    assert len(whole) == 13
    assert [cut.place for cut in find_cuts_in_blocks(blocks)] == whole


def test_few_pictures_are_in_memory() -> None:
    alive: list[int] = []

    def blocks() -> Iterator[np.ndarray]:
        for seed in range(60):
            alive.append(seed)
            yield textured(seed, 64)

    found = find_cuts_in_blocks(blocks())
    assert next(found).place == 64
    assert len(alive) < 6

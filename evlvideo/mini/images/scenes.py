"""Still scenes: one to three objects that do not cover each other.

Every object's shape, colour and background are a combination of the picture's split, so that a test picture shows
nothing but combinations that no training picture has.
"""

import math
import random
from functools import cache

from evlvideo.mini.world import (
    BACKGROUNDS,
    CAMOUFLAGE,
    COLOURS,
    FRAME_SIZES,
    SHAPES,
    Event,
    Item,
    Scene,
    moved_to,
    pool_of,
    sample_item,
)

MOST_OBJECTS = 3
_STILL = "rest"
_GRID = (0.24, 0.5, 0.76)
_JITTER = 0.02
_LEAST_GAP = 0.03
"""Least distance between two objects, as a share of the picture's shorter side."""


def sample_picture(rng: random.Random, split: str) -> Scene:
    """Sample a still scene of a split; its number of objects is uniform in 1 … 3."""
    count = rng.randint(1, MOST_OBJECTS)
    while True:
        background = rng.choice(BACKGROUNDS)
        allowed = _combinations(split, background)
        chosen = rng.sample(allowed, min(count, len(allowed)))
        if len({shape for shape, _ in chosen}) == len({colour for _, colour in chosen}) == count:
            return _scene(rng, background, [sample_item(rng, *pair) for pair in chosen])


@cache
def _combinations(split: str, background: str) -> tuple[tuple[str, str], ...]:
    """List the shapes and colours that objects before a background have in a split."""
    return tuple(
        (shape, colour)
        for shape in SHAPES
        for colour in COLOURS
        if colour not in CAMOUFLAGE[background] and pool_of((shape, colour, background, _STILL)) == split
    )


def _scene(rng: random.Random, background: str, items: list[Item]) -> Scene:
    width, height = rng.choice(FRAME_SIZES)
    return Scene(
        width=width,
        height=height,
        frames=1,
        background=background,
        brightness=rng.uniform(0.85, 1.1),
        texture_seed=rng.getrandbits(32),
        items=_placed(rng, items, width, height),
        event=Event(_STILL),
    )


def _placed(rng: random.Random, items: list[Item], width: int, height: int) -> tuple[Item, ...]:
    """Position objects on a grid until none covers another."""
    cells = [(x, y) for x in _GRID for y in _GRID]
    while True:
        places = rng.sample(cells, len(items))
        placed = [moved_to(rng, item, *place, jitter=_JITTER) for item, place in zip(items, places, strict=True)]
        if all(
            _gap(one, two, width, height) >= _LEAST_GAP for number, one in enumerate(placed) for two in placed[:number]
        ):
            return tuple(placed)


def _gap(one: Item, two: Item, width: int, height: int) -> float:
    """Return the distance between the circles around two objects, as a share of the shorter side."""
    distance = math.hypot((one.x - two.x) * width, (one.y - two.y) * height) / min(width, height)
    return distance - one.radius - two.radius

"""Render frames of mini scenes in NumPy, from signed distances: smooth edges at one sample a pixel."""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlvideo.mini.world import Item, Scene, items_at

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
View = tuple[float, float, float, float]

WHOLE_VIEW: View = (0.0, 0.0, 1.0, 1.0)
"""Left, top, width and height of the whole image."""

COLOUR_VALUES = {
    "red": (215, 40, 40),
    "orange": (242, 135, 25),
    "yellow": (246, 222, 45),
    "green": (45, 165, 65),
    "blue": (45, 80, 220),
    "purple": (145, 55, 185),
    "white": (246, 246, 246),
    "black": (28, 28, 28),
}
_MARGIN = 2
_NOISE_SIGMA = 3.0
_OUTLINE_PIXELS = 1.1


def render_clip(scene: Scene) -> Pixels:
    """Render every frame of a scene, deterministically.

    Returns:
        RGB, uint8 of shape (frames, height, width, 3).
    """
    rng = np.random.default_rng(scene.texture_seed)
    xs = np.arange(-_MARGIN, scene.width + _MARGIN, dtype=np.float32) + 0.5
    ys = np.arange(-_MARGIN, scene.height + _MARGIN, dtype=np.float32) + 0.5
    backdrop = _background(scene, xs, ys, rng)
    noise = rng.standard_normal((scene.height + 16, scene.width + 16, 3), dtype=np.float32) * _NOISE_SIGMA
    steps = rng.integers(-1, 2, size=(scene.frames, 2)) * (rng.random((scene.frames, 1)) < 0.3)
    camera = np.clip(np.cumsum(steps, axis=0), -1, 1)  # (frames, 2): a hand-held camera
    clip = np.empty((scene.frames, scene.height, scene.width, 3), np.uint8)
    for index in range(scene.frames):
        dx, dy = int(camera[index, 0]), int(camera[index, 1])
        top, left = _MARGIN + dy, _MARGIN + dx
        frame = backdrop[top : top + scene.height, left : left + scene.width].copy()
        grid_x, grid_y = xs[left : left + scene.width], ys[top : top + scene.height]
        for item in items_at(scene, index / scene.frames):
            _draw(frame, item, scene, grid_x, grid_y)
        row, column = rng.integers(0, 16, size=2)
        frame += noise[row : row + scene.height, column : column + scene.width]
        clip[index] = np.clip(frame, 0, 255)
    return clip


def render_still(scene: Scene, size: int, moment: float = 0.0, view: View = WHOLE_VIEW) -> Pixels:
    """Render one moment of a scene at `size` × `size` pixels, squeezed like a resized frame.

    Args:
        scene: the scene.
        size: height and width in pixels.
        moment: time, in 0 … 1.
        view: left, top, width and height of the part of the image to render, as shares.

    Returns:
        RGB, uint8 of shape (size, size, 3).
    """
    rng = np.random.default_rng(scene.texture_seed)
    xs, ys = _grid(scene, size, view)
    frame = _background(scene, xs, ys, rng)
    for item in items_at(scene, moment):
        _draw(frame, item, scene, xs, ys)
    frame += rng.standard_normal(frame.shape, dtype=np.float32) * _NOISE_SIGMA
    return np.clip(frame, 0, 255).astype(np.uint8)


def item_masks(scene: Scene, size: int, moment: float = 0.0, view: View = WHOLE_VIEW) -> list[Floats]:
    """Return how much of each pixel of :func:`render_still` each visible object covers: float32 (size, size), 0 … 1."""
    xs, ys = _grid(scene, size, view)
    masks = []
    for item in items_at(scene, moment):
        image = np.zeros((size, size, 1), np.float32)
        _draw(image, item, scene, xs, ys, paint_over=np.ones(1, np.float32))
        masks.append(image[..., 0])
    return masks


def _grid(scene: Scene, size: int, view: View) -> tuple[Floats, Floats]:
    """Return the positions of a still's columns and rows, in scene pixels."""
    left, top, width, height = view
    steps = (np.arange(size) + 0.5) / size
    xs, ys = (left + steps * width) * scene.width, (top + steps * height) * scene.height
    return xs.astype(np.float32), ys.astype(np.float32)


def _draw(frame: Floats, item: Item, scene: Scene, xs: Floats, ys: Floats, paint_over: Floats | None = None) -> None:
    """Draw an object into `frame` (height, width, channels) in place.

    `xs` and `ys` are the pixels' positions in the scene. `paint_over` replaces the object's colours.
    """
    radius = item.radius * min(scene.width, scene.height)
    centre_x, centre_y = item.x * scene.width, item.y * scene.height
    left, right = np.searchsorted(xs, (centre_x - radius * 1.2 - 2, centre_x + radius * 1.2 + 2))
    top, bottom = np.searchsorted(ys, (centre_y - radius * 1.2 - 2, centre_y + radius * 1.2 + 2))
    if left >= right or top >= bottom:
        return
    across, down = (xs[left:right] - centre_x)[None, :] / radius, (ys[top:bottom] - centre_y)[:, None] / radius
    angle = math.radians(item.tilt_degrees)
    turned_x = math.cos(angle) * across + math.sin(angle) * down
    turned_y = math.cos(angle) * down - math.sin(angle) * across
    distance = _DISTANCES[item.shape](turned_x, turned_y) * radius  # (rows, columns), pixels, negative inside
    step = float(xs[1] - xs[0] + ys[1] - ys[0]) / 2
    cover = np.clip(0.5 - distance / step, 0, 1)[..., None]
    if paint_over is None:
        ink = np.clip(0.5 + (distance + _OUTLINE_PIXELS) / step, 0, 1)[..., None]
        light = (1.0 - 0.12 * (across + down))[..., None]
        paint = np.asarray(COLOUR_VALUES[item.colour], np.float32) * light * (1 - 0.5 * ink)
    else:
        paint = paint_over
    area = frame[top:bottom, left:right]
    area += (paint - area) * cover


def _ball(x: Floats, y: Floats) -> Floats:
    return np.sqrt(x * x + y * y) - np.float32(0.9)


def _ring(x: Floats, y: Floats) -> Floats:
    return np.abs(np.sqrt(x * x + y * y) - np.float32(0.72)) - np.float32(0.25)


def _polygon(name: str) -> Callable[[Floats, Floats], Floats]:
    def distance(x: Floats, y: Floats) -> Floats:
        """Return the exact signed distance to a closed polygon."""
        starts, edges, lengths = _edges(name)
        wx = x[None] - starts[:, 0, None, None]
        wy = y[None] - starts[:, 1, None, None]
        ex, ey = edges[:, 0, None, None], edges[:, 1, None, None]
        along = np.clip((wx * ex + wy * ey) / lengths[:, None, None], 0, 1)
        bx, by = wx - ex * along, wy - ey * along
        nearest = np.sqrt((bx * bx + by * by).min(axis=0))
        # Even-odd rule: count the edges that a ray in the direction +x crosses.
        straddles = (wy >= 0) != (wy >= ey)
        crosses = straddles & ((wx * ey - wy * ex < 0) == (ey > 0))
        return np.where(crosses.sum(axis=0) % 2 == 1, -nearest, nearest)

    return distance


@cache
def _edges(name: str) -> tuple[Floats, Floats, Floats]:
    starts = np.asarray(_corners(name), np.float32)
    edges = np.roll(starts, -1, axis=0) - starts
    return starts, edges, (edges**2).sum(axis=1)


def _corners(name: str) -> list[tuple[float, float]]:
    """Return the corners of a shape of radius about 1, with y downwards."""
    match name:
        case "box":
            return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
        case "triangle":
            return [_polar(1.08, 90 + 120 * index) for index in range(3)]
        case "star":
            return [_polar(1.08 if index % 2 == 0 else 0.45, 90 + 36 * index) for index in range(10)]
        case "cross":
            arm, end = 0.32, 1.0
            quarter = [(arm, end), (arm, arm), (end, arm)]
            return [_turned(x, y, turn) for turn in range(4) for x, y in quarter]
        case "heart":
            return [_heart(2 * math.pi * index / 22) for index in range(22)]
        case "diamond":
            return [(0.0, -1.1), (0.66, 0.0), (0.0, 1.1), (-0.66, 0.0)]
        case _:
            raise ValueError(f"{name!r} has no corners.")


def _polar(radius: float, degrees: float) -> tuple[float, float]:
    return radius * math.cos(math.radians(degrees)), -radius * math.sin(math.radians(degrees))


def _turned(x: float, y: float, quarters: int) -> tuple[float, float]:
    for _ in range(quarters):
        x, y = y, -x
    return x, y


def _heart(angle: float) -> tuple[float, float]:
    x = 16 * math.sin(angle) ** 3
    y = 13 * math.cos(angle) - 5 * math.cos(2 * angle) - 2 * math.cos(3 * angle) - math.cos(4 * angle)
    return x / 16.5, -(y + 2) / 15


_DISTANCES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "ball": _ball,
    "ring": _ring,
    **{name: _polygon(name) for name in ("box", "triangle", "star", "cross", "heart", "diamond")},
}


def _background(scene: Scene, xs: Floats, ys: Floats, rng: np.random.Generator) -> Floats:
    """Render the scene without objects: float32 (rows, columns, 3)."""
    image = _BACKDROPS[scene.background](scene, xs[None, :], ys[:, None], rng)
    return np.ascontiguousarray(image * np.float32(scene.brightness), dtype=np.float32)


def _tinted(shade: NDArray[Any], colour: tuple[int, int, int]) -> Floats:
    return np.asarray(shade, np.float32)[..., None] * np.asarray(colour, np.float32)


def _grass(scene: Scene, x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    blades = rng.uniform(-0.16, 0.16, (y.shape[0] // 3 + 1, x.shape[1])).astype(np.float32).repeat(3, axis=0)
    return _tinted(1 + blades[: y.shape[0]], (88, 150, 62))


def _sky(scene: Scene, x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    image = _tinted(np.ones_like(x * y), (110, 175, 236)) + _tinted(np.ones_like(x) * y / scene.height, (70, 45, 14))
    for _ in range(3):
        cx, cy = rng.uniform(0, scene.width), rng.uniform(0, scene.height)
        wide = rng.uniform(8, 18)
        cloud = np.exp(-(((x - cx) / wide) ** 2) - ((y - cy) / (wide * 0.4)) ** 2).astype(np.float32)[..., None]
        image += (np.float32(250) - image) * cloud * np.float32(0.8)
    return image


def _sand(scene: Scene, x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    ripples = 0.05 * np.sin(y * rng.uniform(0.5, 0.8) + 2 * np.sin(x * 0.09 + rng.uniform(0, 6)))
    grains = rng.uniform(-0.07, 0.07, ripples.shape).astype(np.float32)
    return _tinted(1 + ripples + grains, (218, 190, 134))


def _water(scene: Scene, x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    waves = np.sin(y * rng.uniform(0.55, 0.8) + 1.6 * np.sin(x * 0.16 + rng.uniform(0, 6)) + rng.uniform(0, 6))
    return _tinted(1 + 0.2 * waves, (38, 120, 160))


def _wall(scene: Scene, x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    tall, long = 8.0, 16.0
    x, y = x + rng.uniform(0, long), y + rng.uniform(0, tall)
    course = np.floor(y / tall)
    shifted = x + (course % 2) * (long / 2)
    mortar = ((y % tall) < 1.3) | ((shifted % long) < 1.3)
    shade = 1 + 0.12 * np.sin(course * 12.9 + np.floor(shifted / long) * 78.2)
    bricks = _tinted(shade.astype(np.float32), (158, 84, 62))
    return np.where(mortar[..., None], np.asarray((196, 186, 174), np.float32), bricks)


def _night(scene: Scene, x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    image = _tinted(np.ones((y.shape[0], x.shape[1]), np.float32), (20, 22, 58))
    for _ in range(22):
        column = int(rng.random() * x.shape[1])
        row = int(rng.random() * y.shape[0])
        image[row, column] = rng.uniform(150, 255)
    return image


def _floor(scene: Scene, x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    side = rng.uniform(11, 15)
    odd = (np.floor((x + rng.uniform(0, side)) / side) + np.floor((y + rng.uniform(0, side)) / side)) % 2
    light, dark = np.asarray((206, 198, 186), np.float32), np.asarray((120, 112, 108), np.float32)
    return np.where(odd[..., None] > 0, light, dark)


_BACKDROPS: dict[str, Callable[[Scene, Floats, Floats, np.random.Generator], Floats]] = {
    "grass": _grass,
    "sky": _sky,
    "sand": _sand,
    "water": _water,
    "wall": _wall,
    "night": _night,
    "floor": _floor,
}

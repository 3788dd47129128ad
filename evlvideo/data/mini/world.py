"""Scenes of the mini data set: objects, a background, and one event that unfolds over the clip.

Time runs from 0 (first frame) to 1 (just after the last frame). Positions are shares of the picture's width and height,
radii shares of its shorter side. A scene is data: :func:`sprites_at` says what is
visible at a moment, the renderer draws that, and the captions are written from the same description.
"""

import itertools
import math
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

SHAPES = ("ball", "box", "triangle", "star", "ring", "cross", "heart", "diamond")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
SIZES = ("small", "big")
BACKGROUNDS = ("grass", "sky", "sand", "water", "wall", "night", "floor")
FRAME_SIZES = ((64, 64), (96, 64), (64, 96), (80, 80), (96, 96), (96, 72))
"""Width and height of clips in pixels."""

EVENTS = {
    "rest": "one_frame",
    "side_by_side": "one_frame",
    "stacked": "one_frame",
    "shake": "several_frames",
    "bounce": "several_frames",
    "spin": "several_frames",
    "blink": "several_frames",
    "flicker": "several_frames",
    "pulse": "several_frames",
    "alternate": "several_frames",
    "move_left": "frame_order",
    "move_right": "frame_order",
    "move_up": "frame_order",
    "move_down": "frame_order",
    "grow": "frame_order",
    "shrink": "frame_order",
    "recolour": "frame_order",
    "appear": "frame_order",
    "disappear": "frame_order",
    "replace": "frame_order",
}
"""What can happen in a clip, and what is needed to tell it: one frame, several frames, or the order of the frames."""

EVIDENCE_SHARES = {"one_frame": 0.3, "several_frames": 0.3, "frame_order": 0.4}
"""How often each kind of evidence is drawn."""

SYMMETRY_DEGREES = {"box": 90, "triangle": 120, "star": 72, "cross": 90, "heart": 360, "diamond": 180}
"""Turn after which a shape looks the same; shapes that are not here always do."""

_CAMOUFLAGE = {
    "grass": {"green"},
    "sky": {"blue", "white"},
    "sand": {"yellow"},
    "water": {"blue"},
    "wall": {"red"},
    "night": {"black"},
    "floor": {"white"},
}
_RADIUS = {"small": (0.12, 0.14), "big": (0.21, 0.24)}
_PAIRED = {"side_by_side", "stacked", "alternate", "replace"}
_SWITCH_MOMENT = 0.475
"""Moment of a single switch: after the first half's last frame and before the second half's first (28 to 36 frames)."""
_SAMPLED_FRAMES = 4


@dataclass(frozen=True, slots=True)
class Item:
    """An object as the scene introduces it; the radius is a share of the picture's shorter side."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    tilt_degrees: float


@dataclass(frozen=True, slots=True)
class Event:
    """What happens to the first item. `amount`, `period` and `phase` mean what :func:`sprites_at` makes of them."""

    kind: str
    amount: float = 0.0
    period: float = 1.0
    phase: float = 0.0
    colour: str | None = None

    @property
    def evidence(self) -> str:
        """What is needed to tell this event."""
        return EVENTS[self.kind]


@dataclass(frozen=True, slots=True)
class Scene:
    """One clip, complete: everything that its frames and captions depend on."""

    width: int
    height: int
    frames: int
    background: str
    brightness: float
    texture_seed: int
    items: tuple[Item, ...]
    event: Event

    @property
    def combination(self) -> tuple[str, str, str, str]:
        """The attributes that keep splits apart: first object's shape and colour, background, event."""
        return self.items[0].shape, self.items[0].colour, self.background, self.event.kind


@dataclass(frozen=True, slots=True)
class Sprite:
    """An object as it looks at one moment. `second_colour` is mixed in with the share `blend`."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    tilt_degrees: float
    second_colour: str | None = None
    blend: float = 0.0

    @property
    def seen_colour(self) -> str:
        """The colour that dominates."""
        return self.second_colour if self.second_colour and self.blend >= 0.5 else self.colour

    @property
    def seen_size(self) -> str | None:
        """`small`, `big`, or nothing for sizes between the two."""
        if self.radius <= _RADIUS["small"][1] + 0.015:
            return "small"
        return "big" if self.radius >= _RADIUS["big"][0] - 0.015 else None


def sampled_moments(frames: int, count: int = _SAMPLED_FRAMES) -> list[float]:
    """Moments of `count` uniformly sampled frames: 0, V/count, 2V/count, … of V frames."""
    return [index * frames // count / frames for index in range(count)]


def pool_of(scene: Scene) -> str:
    """The split whose scenes may have this combination of attributes: no combination occurs in two splits."""
    bucket = zlib.crc32("/".join(scene.combination).encode()) % 10
    return "test" if bucket < 3 else "validate" if bucket < 4 else "train"


def sample_scene(rng: random.Random, split: str | None = None) -> Scene:
    """Draw a scene.

    Args:
        rng: the only source of randomness.
        split: draw only combinations of attributes that belong to this split; all of them where nothing is named.
    """
    evidence = rng.choices(list(EVIDENCE_SHARES), list(EVIDENCE_SHARES.values()))[0]
    kind = rng.choice([name for name, needs in EVENTS.items() if needs == evidence])
    while True:
        scene = _sample(rng, kind)
        if split is None or pool_of(scene) == split:
            return scene


def _sample(rng: random.Random, kind: str) -> Scene:
    width, height = rng.choice(FRAME_SIZES)
    frames = rng.randint(28, 36)
    background = rng.choice(BACKGROUNDS)
    colours = rng.sample([colour for colour in COLOURS if colour not in _CAMOUFLAGE[background]], 3)
    count = 2 if kind in _PAIRED or (kind != "rest" and rng.random() < 0.3) else 1
    shapes = rng.sample(SHAPES, count)
    if kind == "spin" and shapes[0] not in SYMMETRY_DEGREES:
        shapes[0] = rng.choice([shape for shape in SYMMETRY_DEGREES if shape not in shapes])
    items = tuple(_item(rng, shape, colour) for shape, colour in zip(shapes, colours[:count], strict=True))
    event = _event(rng, kind, frames, items[0], colours[2])
    return Scene(
        width=width,
        height=height,
        frames=frames,
        background=background,
        brightness=rng.uniform(0.85, 1.1),
        texture_seed=rng.getrandbits(32),
        items=_placed(rng, items, event),
        event=event,
    )


def _item(rng: random.Random, shape: str, colour: str) -> Item:
    size = rng.choice(SIZES)
    return Item(shape, colour, size, 0.5, 0.5, rng.uniform(*_RADIUS[size]), rng.uniform(-12, 12))


def _placed(rng: random.Random, items: tuple[Item, ...], event: Event) -> tuple[Item, ...]:
    """Give each item its place, so that two items do not cover each other at any moment."""
    first, *others = items
    kind = event.kind
    if kind == "rest":
        x, y = rng.choice((0.24, 0.5, 0.76)), rng.choice((0.24, 0.5, 0.76))
        return (_at(rng, first, x, y, jitter=0.04),)
    if kind in {"alternate", "replace"}:
        return tuple(_at(rng, item, 0.5, 0.5, jitter=0.15) for item in items)
    if not others:
        return (_at(rng, first, 0.5, 0.5, jitter=0.12),)
    upright = kind in {"stacked", "move_left", "move_right", "shake"}
    near = rng.choice((0.26, 0.74))
    places = (near, 1 - near)
    if upright:
        return tuple(_at(rng, item, 0.5, place, jitter=0.05) for item, place in zip(items, places, strict=True))
    return tuple(_at(rng, item, place, 0.5, jitter=0.05) for item, place in zip(items, places, strict=True))


def _at(rng: random.Random, item: Item, x: float, y: float, jitter: float) -> Item:
    return replace(item, x=x + rng.uniform(-jitter, jitter), y=y + rng.uniform(-jitter, jitter))


def _event(rng: random.Random, kind: str, frames: int, item: Item, other_colour: str) -> Event:
    if kind in {"blink", "flicker", "alternate"}:
        return _visible(rng, Event(kind, colour=other_colour), frames, (0.2, 0.4), _is_uneven)
    if kind in {"shake", "bounce", "pulse"}:
        amount = {"shake": (0.12, 0.17), "bounce": (0.26, 0.34), "pulse": (0.3, 0.38)}[kind]
        return _visible(rng, Event(kind, amount=rng.uniform(*amount)), frames, (0.28, 0.42), _swings)
    if kind == "spin":
        symmetry = SYMMETRY_DEGREES[item.shape]
        # A quarter of the clip turns the object by 0.4 of its symmetry beyond whole symmetries: all samples differ.
        turns = 0.4 if symmetry > 120 else 1.4
        return Event(kind, amount=rng.choice((-1, 1)) * 4 * turns * symmetry)
    if kind.startswith("move"):
        return Event(kind, amount=rng.uniform(0.6, 0.76))
    if kind in {"grow", "shrink"}:
        return Event(kind, amount=rng.uniform(0.22, 0.26))
    return Event(kind, colour=other_colour if kind == "recolour" else None)


def _visible(
    rng: random.Random,
    event: Event,
    frames: int,
    periods: tuple[float, float],
    accept: Callable[[Sequence[float]], bool],
) -> Event:
    """Draw period and phase of a periodic event until the uniformly sampled frames show it."""
    while True:
        drawn = replace(event, period=rng.uniform(*periods), phase=rng.random())
        if accept([_wave(drawn, moment) for moment in sampled_moments(frames)]):
            return drawn


def _wave(event: Event, moment: float) -> float:
    """Value of a periodic event in -1 … 1."""
    angle = 2 * math.pi * (moment / event.period + event.phase)
    return abs(math.sin(angle / 2)) * 2 - 1 if event.kind == "bounce" else math.sin(angle)


def _is_uneven(values: Sequence[float]) -> bool:
    """Three samples in one state and one in the other: told apart from a single switch without their order."""
    return sum(value > 0 for value in values) in {1, 3} and min(abs(value) for value in values) > 0.15


def _swings(values: Sequence[float]) -> bool:
    """The samples span most of the swing and do not look like one move from one end to the other."""
    steps = [later - earlier for earlier, later in itertools.pairwise(values)]
    return max(values) - min(values) > 1.3 and min(steps) < -0.4 and max(steps) > 0.4


def sprites_at(scene: Scene, moment: float) -> tuple[Sprite, ...]:
    """Objects that are visible at a moment in 0 … 1, in the order of the scene's items."""
    first, *others = (
        Sprite(item.shape, item.colour, item.x, item.y, item.radius, item.tilt_degrees) for item in scene.items
    )
    event = scene.event
    if event.kind in {"alternate", "replace"}:
        shows_first = _wave(event, moment) > 0 if event.kind == "alternate" else moment < _SWITCH_MOMENT
        return (first,) if shows_first else tuple(others)
    visible = {
        "blink": _wave(event, moment) > 0,
        "appear": moment >= _SWITCH_MOMENT,
        "disappear": moment < _SWITCH_MOMENT,
    }
    if not visible.get(event.kind, True):
        return tuple(others)
    return (_changed(first, event, moment), *others)


def _changed(sprite: Sprite, event: Event, moment: float) -> Sprite:
    match event.kind:
        case "move_left" | "move_right":
            sign = 1 if event.kind == "move_right" else -1
            return replace(sprite, x=0.5 + sign * event.amount * (moment - 0.5))
        case "move_up" | "move_down":
            sign = 1 if event.kind == "move_down" else -1
            return replace(sprite, y=0.5 + sign * event.amount * (moment - 0.5))
        case "grow" | "shrink":
            share = moment if event.kind == "grow" else 1 - moment
            return replace(sprite, radius=0.07 + event.amount * share)
        case "shake":
            return replace(sprite, x=sprite.x + event.amount * _wave(event, moment))
        case "bounce":
            return replace(sprite, y=0.76 - event.amount * (_wave(event, moment) + 1) / 2)
        case "pulse":
            return replace(sprite, radius=0.165 * (1 + event.amount * _wave(event, moment)))
        case "spin":
            return replace(sprite, tilt_degrees=sprite.tilt_degrees + event.amount * moment)
        case "flicker":
            return replace(sprite, second_colour=event.colour, blend=float(_wave(event, moment) <= 0))
        case "recolour":
            blend = min(1.0, max(0.0, (moment - _SWITCH_MOMENT) / 0.02 + 0.5))
            return replace(sprite, second_colour=event.colour, blend=blend)
        case _:
            return sprite

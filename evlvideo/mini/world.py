"""Scenes of the mini dataset: objects, a background, and one event that unfolds over the clip.

Time runs from 0 (first frame) to 1 (just after the last frame). Positions are shares of the image's width and height,
radii shares of its shorter side. A scene is data: :func:`items_at` returns what is visible at a moment, and both frames
and captions are made from that.
"""

import math
import random
import zlib
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
    "blink": "several_frames",
    "alternate": "several_frames",
    "move_left": "frame_order",
    "move_right": "frame_order",
    "appear": "frame_order",
    "disappear": "frame_order",
}
"""What can happen in a clip, and what it takes to see it: one frame, several frames, or their order."""

EVIDENCE_SHARES = {"one_frame": 0.2, "several_frames": 0.3, "frame_order": 0.5}
"""Probability of each kind of evidence."""

SYMMETRY_DEGREES = {"box": 90, "triangle": 120, "star": 72, "cross": 90, "heart": 360, "diamond": 180}
"""Rotation after which a shape looks the same; shapes not listed look the same at any angle."""

CAMOUFLAGE = {
    "grass": {"green"},
    "sky": {"blue", "white"},
    "sand": {"yellow"},
    "water": {"blue"},
    "wall": {"red"},
    "night": {"black"},
    "floor": {"white"},
}
"""Background → colours that would not stand out from it."""
_RADIUS = {"small": (0.12, 0.14), "big": (0.21, 0.24)}
_PAIRED = {"side_by_side", "alternate"}
_SWITCHING_PERIODS = (0.2, 0.4)
_SWITCH_MOMENT = 0.475
"""Moment of a single switch: after the first half's last frame and before the second half's first (28 to 36 frames)."""
_BYSTANDER_SHARE = 0.15
_SAMPLED_FRAMES = 4


@dataclass(frozen=True, slots=True)
class Item:
    """An object and its position; the radius is a share of the image's shorter side."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float
    tilt_degrees: float


@dataclass(frozen=True, slots=True)
class Event:
    """What happens to the first item; see :func:`items_at` for `amount`, `period` and `phase`."""

    kind: str
    amount: float = 0.0
    period: float = 1.0
    phase: float = 0.0

    @property
    def evidence(self) -> str:
        """What it takes to see this event."""
        return EVENTS[self.kind]


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that the frames and captions of a clip depend on."""

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


def sampled_moments(frames: int) -> list[float]:
    """Return the moments of the n uniformly sampled frames: 0, V/n, 2V/n, … of V frames."""
    return [index * frames // _SAMPLED_FRAMES / frames for index in range(_SAMPLED_FRAMES)]


def pool_of(combination: tuple[str, str, str, str]) -> str:
    """Return the split of a :attr:`Scene.combination` of attributes; no combination is in two splits."""
    bucket = zlib.crc32("/".join(combination).encode()) % 10
    return "test" if bucket < 3 else "validate" if bucket < 4 else "train"


def sample_scene(rng: random.Random, split: str | None = None) -> Scene:
    """Sample a scene.

    Args:
        rng: the only source of randomness.
        split: restrict to combinations of attributes of this split. If None, allow all.
    """
    evidence = rng.choices(list(EVIDENCE_SHARES), list(EVIDENCE_SHARES.values()))[0]
    kind = rng.choice([name for name, needs in EVENTS.items() if needs == evidence])
    while True:
        scene = _sample(rng, kind)
        if split is None or pool_of(scene.combination) == split:
            return scene


def _sample(rng: random.Random, kind: str) -> Scene:
    width, height = rng.choice(FRAME_SIZES)
    frames = rng.randint(28, 36)
    background = rng.choice(BACKGROUNDS)
    count = 2 if kind in _PAIRED or (kind != "rest" and rng.random() < _BYSTANDER_SHARE) else 1
    colours = rng.sample([colour for colour in COLOURS if colour not in CAMOUFLAGE[background]], count)
    items = tuple(
        sample_item(rng, shape, colour) for shape, colour in zip(rng.sample(SHAPES, count), colours, strict=True)
    )
    event = _event(rng, kind, frames)
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


def sample_item(rng: random.Random, shape: str, colour: str) -> Item:
    """Sample an object's size and tilt; it is in the middle of the image."""
    size = rng.choice(SIZES)
    return Item(shape, colour, size, 0.5, 0.5, rng.uniform(*_RADIUS[size]), rng.uniform(-12, 12))


def _placed(rng: random.Random, items: tuple[Item, ...], event: Event) -> tuple[Item, ...]:
    """Position the items so that they never cover each other."""
    first, *others = items
    kind = event.kind
    if kind == "rest":
        x, y = rng.choice((0.24, 0.5, 0.76)), rng.choice((0.24, 0.5, 0.76))
        return (moved_to(rng, first, x, y, jitter=0.04),)
    if kind == "alternate":
        return tuple(moved_to(rng, item, 0.5, 0.5, jitter=0.15) for item in items)
    if not others:
        return (moved_to(rng, first, 0.5, 0.5, jitter=0.12),)
    upright = kind in {"move_left", "move_right"}
    near = rng.choice((0.26, 0.74))
    places = (near, 1 - near)
    if upright:
        return tuple(moved_to(rng, item, 0.5, place, jitter=0.05) for item, place in zip(items, places, strict=True))
    return tuple(moved_to(rng, item, place, 0.5, jitter=0.05) for item, place in zip(items, places, strict=True))


def moved_to(rng: random.Random, item: Item, x: float, y: float, jitter: float) -> Item:
    """Move an object to within `jitter` of a position."""
    return replace(item, x=x + rng.uniform(-jitter, jitter), y=y + rng.uniform(-jitter, jitter))


def _event(rng: random.Random, kind: str, frames: int) -> Event:
    if kind in {"blink", "alternate"}:
        return _switching(rng, kind, frames)
    return Event(kind, amount=rng.uniform(0.6, 0.76) if kind.startswith("move") else 0.0)


def _switching(rng: random.Random, kind: str, frames: int) -> Event:
    """Sample period and phase until the uniformly sampled frames show one state three times and the other once.

    A single switch is in the middle of a clip, so this differs from it even without the order of the frames.
    """
    while True:
        event = Event(kind, period=rng.uniform(*_SWITCHING_PERIODS), phase=rng.random())
        waves = [_wave(event, moment) for moment in sampled_moments(frames)]
        if sum(wave > 0 for wave in waves) in {1, 3} and min(abs(wave) for wave in waves) > 0.15:
            return event


def _wave(event: Event, moment: float) -> float:
    """Return the value of a periodic event, in -1 … 1."""
    return math.sin(2 * math.pi * (moment / event.period + event.phase))


def items_at(scene: Scene, moment: float) -> tuple[Item, ...]:
    """Return the objects visible at a moment in 0 … 1, at their positions then, in the order of the scene's items."""
    first, *others = scene.items
    event = scene.event
    if event.kind == "alternate":
        return (first,) if _wave(event, moment) > 0 else tuple(others)
    visible = {
        "blink": _wave(event, moment) > 0,
        "appear": moment >= _SWITCH_MOMENT,
        "disappear": moment < _SWITCH_MOMENT,
    }
    if not visible.get(event.kind, True):
        return tuple(others)
    return (_moved(first, event, moment), *others)


def _moved(item: Item, event: Event, moment: float) -> Item:
    way = event.amount * (moment - 0.5)
    match event.kind:
        case "move_left":
            return replace(item, x=0.5 - way)
        case "move_right":
            return replace(item, x=0.5 + way)
        case _:
            return item

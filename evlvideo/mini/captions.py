"""Write captions of mini scenes: a small grammar with synonyms and levels of detail, like crowd captions.

Every caption records what it takes to see it (`one_frame`, `several_frames` or `frame_order`), which may be less than
what its clip takes.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from evlvideo.mini.world import Item, Scene, items_at

ONE_FRAME, SEVERAL_FRAMES, FRAME_ORDER = "one_frame", "several_frames", "frame_order"

NOUNS = {
    "ball": ("ball", "ball", "circle"),
    "box": ("box", "square", "square"),
    "triangle": ("triangle",),
    "star": ("star",),
    "ring": ("ring", "ring", "hoop"),
    "cross": ("cross", "cross", "plus sign"),
    "heart": ("heart",),
    "diamond": ("diamond",),
}
"""Shape → its names, the first being the usual one."""
_SIZE_WORDS = {"small": ("small", "small", "little", "tiny"), "big": ("big", "big", "large")}
PLACES = {
    "grass": ("on the grass", "on the grass", "over a lawn", "on a green field"),
    "sky": ("in the sky", "in the sky", "in a cloudy sky", "in front of clouds"),
    "sand": ("on the sand", "on the sand", "on a beach", "in the desert"),
    "water": ("on the water", "in the water", "over the sea", "over the waves"),
    "wall": ("in front of a brick wall", "in front of a brick wall", "on a wall", "before a wall of bricks"),
    "night": ("in the night sky", "at night", "in the dark", "in space"),
    "floor": ("on a checkered floor", "on a checkered floor", "on the tiles", "on a tiled floor"),
}
"""Background → where things before it are."""
_EMPTY = {
    "grass": ("grass", "a lawn", "a green field"),
    "sky": ("the sky", "a cloudy sky"),
    "sand": ("sand", "a beach"),
    "water": ("water", "the sea"),
    "wall": ("a brick wall", "a wall of bricks"),
    "night": ("the night sky", "stars at night"),
    "floor": ("a checkered floor", "a tiled floor"),
}
_POSITIONS = {
    (-1, -1): ("in the top left corner", "in the upper left"),
    (0, -1): ("at the top", "near the top"),
    (1, -1): ("in the top right corner", "in the upper right"),
    (-1, 0): ("on the left side", "on the left"),
    (0, 0): ("in the middle", "in the center"),
    (1, 0): ("on the right side", "on the right"),
    (-1, 1): ("in the bottom left corner", "in the lower left"),
    (0, 1): ("at the bottom", "near the bottom"),
    (1, 1): ("in the bottom right corner", "in the lower right"),
}

_PREDICATES: dict[str, tuple[tuple[str, str], ...]] = {
    "rest": (("lies", "lying"), ("rests", "resting"), ("sits", "sitting")),
    "blink": (("blinks", "blinking"), ("blinks", "blinking"), ("blinks on and off", "blinking on and off")),
    "move_left": (
        ("moves left", "moving left"),
        ("moves left", "moving left"),
        ("moves to the left", "moving to the left"),
    ),
    "move_right": (
        ("moves right", "moving right"),
        ("moves right", "moving right"),
        ("moves to the right", "moving to the right"),
    ),
    "appear": (("appears", "appearing"), ("appears", "appearing"), ("suddenly appears", "suddenly appearing")),
    "disappear": (("disappears", "disappearing"), ("disappears", "disappearing"), ("vanishes", "vanishing")),
}
_OPENINGS = ("a video of", "a video of", "a clip of", "an animation of", "this is")
_MOVING_PICTURE = re.compile("a video of|a clip of|an animation of")
_ONE_FRAME_SHARE = 0.06
"""Share of captions that leave out the event of a clip that has one."""
_TRIES = 40


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence, and what it takes to see it: `one_frame`, `several_frames` or `frame_order`."""

    text: str
    evidence: str


def write_captions(scene: Scene, rng: random.Random, count: int = 20) -> list[Caption]:
    """Write `count` captions of a clip, all different if the grammar has enough for this scene."""
    return _different(lambda: _clip_caption(scene, rng), count)


def _different(write: Callable[[], Caption], count: int) -> list[Caption]:
    """Write until `count` captions differ, or, after many attempts, fill up with repeated ones."""
    captions: dict[str, Caption] = {}
    spare: list[Caption] = []
    for _ in range(_TRIES * count):
        caption = write()
        if captions.setdefault(caption.text, caption) is not caption:
            spare.append(caption)
        if len(captions) == count:
            break
    return (list(captions.values()) + spare)[:count]


def write_still_captions(scene: Scene, rng: random.Random, count: int = 1, moment: float = 0.0) -> list[Caption]:
    """Write captions of the frame at `moment` (0 … 1) alone; they may repeat."""
    return [Caption(_still(scene, items_at(scene, moment), rng), ONE_FRAME) for _ in range(count)]


def write_picture_captions(scene: Scene, rng: random.Random, count: int) -> list[Caption]:
    """Write captions of a still picture, as different as those of a clip; of more than two objects, each names two."""
    return _different(lambda: _picture_caption(scene, rng), count)


def _picture_caption(scene: Scene, rng: random.Random) -> Caption:
    text = _still(scene, tuple(rng.sample(scene.items, min(2, len(scene.items)))), rng)
    return Caption(_MOVING_PICTURE.sub("a picture of", text), ONE_FRAME)


def _clip_caption(scene: Scene, rng: random.Random) -> Caption:
    kind, evidence = scene.event.kind, scene.event.evidence
    if evidence == ONE_FRAME:
        return Caption(_still(scene, items_at(scene, 0.0), rng), ONE_FRAME)
    if rng.random() < _ONE_FRAME_SHARE:
        return Caption(_objects_only(scene, rng), ONE_FRAME)
    text = (
        _two_takers(scene, rng)
        if kind == "alternate"
        else _with_bystander(_action(_noun(scene.items[0], rng), rng.choice(_PREDICATES[kind]), rng), scene, rng)
    )
    return Caption(_with_place(text, scene, rng), evidence)


def _action(noun: str, predicate: tuple[str, str], rng: random.Random) -> str:
    says, doing = predicate
    draw = rng.random()
    if draw < 0.5:
        return f"{noun} is {doing}"
    if draw < 0.7:
        return f"{noun} {says}"
    if draw < 0.8:
        return f"there is {noun} {doing}"
    if draw < 0.9:
        return f"{rng.choice(_OPENINGS)} {noun} {doing}"
    return f"{noun} {doing}"


def _two_takers(scene: Scene, rng: random.Random) -> str:
    """Describe two items that are never visible together."""
    one, two = (_noun(item, rng) for item in rng.sample(scene.items, 2))
    return rng.choice(
        (
            f"{one} and {two} take turns",
            f"{one} and {two} take turns",
            f"{one} and {two} are taking turns",
            f"a video of {one} and {two} taking turns",
        )
    )


def _objects_only(scene: Scene, rng: random.Random) -> str:
    """Describe one frame of a clip with an event: objects and background, not the event."""
    noun = _noun(rng.choice(scene.items) if scene.event.kind == "alternate" else scene.items[0], rng)
    draw = rng.random()
    text = noun if draw < 0.4 else f"there is {noun}" if draw < 0.75 else f"{rng.choice(_OPENINGS)} {noun}"
    return _with_place(_with_bystander(text, scene, rng), scene, rng, share=0.8)


def _still(scene: Scene, items: tuple[Item, ...], rng: random.Random) -> str:
    """Describe a frame: objects, their colours, sizes and positions, or that there are none."""
    if not items:
        empty = rng.choice(_EMPTY[scene.background])
        return rng.choice(
            (f"there is only {empty}", f"{empty} and nothing on it", f"an empty picture of {empty}", empty)
        )
    if len(items) == 2:
        return _still_pair(scene, items, rng)
    noun, draw = _noun(items[0], rng), rng.random()
    position = rng.choice(_POSITIONS[_third(items[0].x), _third(items[0].y)])
    if draw < 0.15:
        return _with_place(_action(noun, rng.choice(_PREDICATES["rest"]), rng), scene, rng, share=0.8)
    text = noun if draw < 0.4 else f"there is {noun}" if draw < 0.8 else f"{rng.choice(_OPENINGS)} {noun}"
    if rng.random() < 0.45:
        text = f"{text} {position}"
    return _with_place(text, scene, rng, share=0.65)


def _still_pair(scene: Scene, items: tuple[Item, ...], rng: random.Random) -> str:
    first, second = rng.sample(items, 2)
    one, two = _noun(first, rng), _noun(second, rng)
    across, down = second.x - first.x, second.y - first.y
    if abs(across) >= abs(down):
        side = "left" if across > 0 else "right"
        relations = [f"next to {two}", f"beside {two}", f"to the {side} of {two}", f"on the {side} of {two}"]
    else:
        relations = [f"above {two}", f"over {two}"] if down > 0 else [f"below {two}", f"under {two}"]
    relation = rng.choice([*relations, f"and {two}"])
    opening = rng.choice(("", "", "there is ", f"{rng.choice(_OPENINGS)} "))
    return _with_place(f"{opening}{one} {relation}", scene, rng, share=0.6)


def _noun(item: Item, rng: random.Random) -> str:
    """Write a noun phrase with its article and a random level of detail."""
    words = [rng.choice(NOUNS[item.shape])]
    if rng.random() < 0.06:
        words = [rng.choice(("object", "shape"))]
    if rng.random() < 0.88:
        words.insert(0, item.colour)
    if rng.random() < 0.35:
        words.insert(0, rng.choice(_SIZE_WORDS[item.size]))
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"


def _with_bystander(text: str, scene: Scene, rng: random.Random) -> str:
    """Mention the second item of a scene in which only the first does something."""
    if len(scene.items) < 2 or scene.event.kind == "alternate" or rng.random() < 0.5:
        return text
    return f"{text} {rng.choice(('next to', 'beside', 'near'))} {_noun(scene.items[1], rng)}"


def _with_place(text: str, scene: Scene, rng: random.Random, share: float = 0.55) -> str:
    return f"{text} {rng.choice(PLACES[scene.background])}" if rng.random() < share else text


def _third(share: float) -> int:
    return -1 if share < 0.37 else 1 if share > 0.63 else 0

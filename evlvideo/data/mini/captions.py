"""Captions of mini scenes: a small grammar with synonyms and levels of detail, in the manner of crowd captions.

Every caption says what is needed to tell it (`one_frame`, `several_frames` or `frame_order`), whatever its clip needs.
"""

import random
from dataclasses import dataclass

from evlvideo.data.mini.world import Scene, Sprite, sprites_at

ONE_FRAME, SEVERAL_FRAMES, FRAME_ORDER = "one_frame", "several_frames", "frame_order"

_NOUNS = {
    "ball": ("ball", "ball", "circle"),
    "box": ("box", "square", "square"),
    "triangle": ("triangle",),
    "star": ("star",),
    "ring": ("ring", "ring", "hoop"),
    "cross": ("cross", "cross", "plus sign"),
    "heart": ("heart",),
    "diamond": ("diamond",),
}
_SIZE_WORDS = {"small": ("small", "small", "little", "tiny"), "big": ("big", "big", "large")}
_PLACES = {
    "grass": ("on the grass", "on the grass", "over a lawn", "on a green field"),
    "sky": ("in the sky", "in the sky", "in a cloudy sky", "in front of clouds"),
    "sand": ("on the sand", "on the sand", "on a beach", "in the desert"),
    "water": ("on the water", "in the water", "over the sea", "over the waves"),
    "wall": ("in front of a brick wall", "in front of a brick wall", "on a wall", "before a wall of bricks"),
    "night": ("in the night sky", "at night", "in the dark", "in space"),
    "floor": ("on a checkered floor", "on a checkered floor", "on the tiles", "on a tiled floor"),
}
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

_LEFT = ("left", "to the left", "to the left", "from right to left", "towards the left side")
_RIGHT = ("right", "to the right", "to the right", "from left to right", "towards the right side")
_SIDEWAYS = (
    ("moves", "moving"),
    ("moves", "moving"),
    ("slides", "sliding"),
    ("goes", "going"),
    ("travels", "traveling"),
)

_PREDICATES: dict[str, tuple[tuple[str, str], ...]] = {
    "rest": (("lies", "lying"), ("rests", "resting"), ("sits", "sitting")),
    "move_left": tuple((f"{says} {way}", f"{doing} {way}") for says, doing in _SIDEWAYS for way in _LEFT),
    "move_right": tuple((f"{says} {way}", f"{doing} {way}") for says, doing in _SIDEWAYS for way in _RIGHT),
    "move_up": (
        ("moves up", "moving up"),
        ("moves up", "moving up"),
        ("goes up", "going up"),
        ("rises", "rising"),
        ("rises to the top", "rising to the top"),
        ("moves from the bottom to the top", "moving from the bottom to the top"),
        ("floats upwards", "floating upwards"),
    ),
    "move_down": (
        ("moves down", "moving down"),
        ("moves down", "moving down"),
        ("goes down", "going down"),
        ("falls", "falling"),
        ("falls down", "falling down"),
        ("moves from the top to the bottom", "moving from the top to the bottom"),
        ("sinks to the bottom", "sinking to the bottom"),
    ),
    "grow": (
        ("grows", "growing"),
        ("grows bigger", "growing bigger"),
        ("gets bigger", "getting bigger"),
        ("gets larger", "getting larger"),
        ("becomes bigger and bigger", "becoming bigger and bigger"),
        ("comes closer", "coming closer"),
    ),
    "shrink": (
        ("shrinks", "shrinking"),
        ("shrinks down", "shrinking down"),
        ("gets smaller", "getting smaller"),
        ("becomes smaller and smaller", "becoming smaller and smaller"),
        ("goes away into the distance", "going away into the distance"),
    ),
    "appear": (
        ("appears", "appearing"),
        ("suddenly appears", "suddenly appearing"),
        ("shows up", "showing up"),
        ("pops up", "popping up"),
        ("comes out of nowhere", "coming out of nowhere"),
    ),
    "disappear": (
        ("disappears", "disappearing"),
        ("suddenly disappears", "suddenly disappearing"),
        ("vanishes", "vanishing"),
        ("goes missing", "going missing"),
        ("is gone after a while", "vanishing after a while"),
    ),
    "shake": (
        ("shakes", "shaking"),
        ("shakes from side to side", "shaking from side to side"),
        ("swings left and right", "swinging left and right"),
        ("moves back and forth", "moving back and forth"),
        ("wiggles", "wiggling"),
    ),
    "bounce": (
        ("bounces", "bouncing"),
        ("bounces up and down", "bouncing up and down"),
        ("jumps up and down", "jumping up and down"),
        ("jumps", "jumping"),
        ("hops again and again", "hopping again and again"),
    ),
    "spin": (
        ("spins", "spinning"),
        ("spins around", "spinning around"),
        ("rotates", "rotating"),
        ("turns around", "turning around"),
        ("turns like a wheel", "turning like a wheel"),
    ),
    "blink": (
        ("blinks", "blinking"),
        ("blinks on and off", "blinking on and off"),
        ("flashes", "flashing"),
        ("keeps flashing", "flashing on and off"),
        ("comes and goes", "coming and going"),
    ),
    "pulse": (
        ("pulses", "pulsing"),
        ("beats like a heart", "beating like a heart"),
        ("gets bigger and smaller", "getting bigger and smaller"),
        ("grows and shrinks again and again", "growing and shrinking again and again"),
        ("changes size all the time", "changing size all the time"),
    ),
}
_VAGUE: dict[str, tuple[tuple[str, str], ...]] = {
    "move": (("moves", "moving"), ("is on the move", "moving along"), ("moves in a line", "moving in a line")),
    "size": (("changes size", "changing size"), ("changes its size", "changing its size")),
    "colour": (("changes color", "changing color"), ("changes its color", "changing its color")),
}
_VAGUE_OF = {
    "move_left": "move",
    "move_right": "move",
    "move_up": "move",
    "move_down": "move",
    "grow": "size",
    "shrink": "size",
    "recolour": "colour",
    "flicker": "colour",
}
_OPENINGS = ("a video of", "a video of", "a clip of", "an animation of", "this is")
_ONE_FRAME_SHARE = 0.2
_VAGUE_SHARE = 0.15
_TRIES = 40


@dataclass(frozen=True, slots=True)
class Caption:
    """A sentence and what is needed to tell it: `one_frame`, `several_frames` or `frame_order`."""

    text: str
    evidence: str


def write_captions(scene: Scene, rng: random.Random, count: int = 20) -> list[Caption]:
    """Write `count` captions of a clip, all different where the grammar has as many for this scene."""
    captions: dict[str, Caption] = {}
    spare: list[Caption] = []
    for _ in range(_TRIES * count):
        caption = _clip_caption(scene, rng)
        if captions.setdefault(caption.text, caption) is not caption:
            spare.append(caption)
        if len(captions) == count:
            break
    return (list(captions.values()) + spare)[:count]


def write_still_captions(scene: Scene, rng: random.Random, count: int = 1, moment: float = 0.0) -> list[Caption]:
    """Write captions that tell only what the frame at `moment` (0 … 1) shows; they may repeat."""
    return [Caption(_still(scene, sprites_at(scene, moment), rng), ONE_FRAME) for _ in range(count)]


def _clip_caption(scene: Scene, rng: random.Random) -> Caption:
    kind = scene.event.kind
    draw = rng.random()
    if kind in {"rest", "side_by_side", "stacked"}:
        return Caption(_still(scene, sprites_at(scene, 0.0), rng), ONE_FRAME)
    if draw < _ONE_FRAME_SHARE:
        return Caption(_objects_only(scene, rng), ONE_FRAME)
    if kind in {"alternate", "replace"}:
        return _two_takers(scene, rng, vague=draw < _ONE_FRAME_SHARE + _VAGUE_SHARE)
    noun = _noun(scene.items[0].shape, _colour_of_actor(scene), _size_of_actor(scene), rng)
    if kind in {"recolour", "flicker"} and draw >= _ONE_FRAME_SHARE + _VAGUE_SHARE:
        return _two_colours(scene, rng)
    evidence = scene.event.evidence
    predicates = _PREDICATES.get(kind, ())
    if kind in _VAGUE_OF and draw < _ONE_FRAME_SHARE + _VAGUE_SHARE:
        predicates, evidence = _VAGUE[_VAGUE_OF[kind]], SEVERAL_FRAMES
    if scene.items[0].shape == "ball" and kind in {"move_left", "move_right"} and rng.random() < 0.3:
        ways = _LEFT if kind == "move_left" else _RIGHT
        predicates = (
            tuple((f"rolls {way}", f"rolling {way}") for way in ways) if evidence == FRAME_ORDER else predicates
        )
    text = _action(noun, rng.choice(predicates), rng)
    return Caption(_with_place(_with_bystander(text, scene, rng), scene, rng), evidence)


def _action(noun: str, predicate: tuple[str, str], rng: random.Random) -> str:
    says, doing = predicate
    draw = rng.random()
    if draw < 0.3:
        return f"{noun} {says}"
    if draw < 0.6:
        return f"{noun} is {doing}"
    if draw < 0.75:
        return f"there is {noun} {doing}"
    if draw < 0.9:
        return f"{rng.choice(_OPENINGS)} {noun} {doing}"
    return f"{noun} {doing}"


def _two_colours(scene: Scene, rng: random.Random) -> Caption:
    """The first item changes between two colours, once or again and again."""
    item, second = scene.items[0], scene.event.colour
    first = item.colour
    plain = _noun(item.shape, None, _size_of_actor(scene), rng)
    coloured = _noun(item.shape, first, _size_of_actor(scene), rng)
    if scene.event.kind == "flicker":
        pair = rng.choice((f"{first} and {second}", f"{second} and {first}"))
        predicate = rng.choice(
            (
                (f"flickers between {pair}", f"flickering between {pair}"),
                (f"changes between {pair}", f"changing between {pair}"),
                (f"switches between {pair}", f"switching between {pair}"),
                (f"is {pair} by turns", f"flashing {pair}"),
            )
        )
        return Caption(_with_place(_action(plain, predicate, rng), scene, rng), SEVERAL_FRAMES)
    noun, predicate = rng.choice(
        (
            (coloured, (f"turns {second}", f"turning {second}")),
            (coloured, (f"becomes {second}", f"becoming {second}")),
            (coloured, (f"changes to {second}", f"changing to {second}")),
            (plain, (f"turns from {first} to {second}", f"turning from {first} to {second}")),
            (plain, (f"changes from {first} to {second}", f"changing from {first} to {second}")),
            (plain, (f"is first {first} and then {second}", f"changing its color from {first} to {second}")),
        )
    )
    return Caption(_with_place(_action(noun, predicate, rng), scene, rng), FRAME_ORDER)


def _two_takers(scene: Scene, rng: random.Random, vague: bool) -> Caption:
    """Two items that are never seen together, by turns or one after the other."""
    one, two = (_noun(item.shape, item.colour, item.size, rng) for item in scene.items)
    if scene.event.kind == "alternate" or vague:
        if rng.random() < 0.5:
            one, two = two, one
        forms = [f"{one} and {two} are shown", f"{one} and {two} but never together"]
        if scene.event.kind == "alternate":
            forms += [
                f"{one} and {two} take turns",
                f"{one} and {two} are taking turns",
                f"{one} switches with {two} again and again",
                f"the picture switches between {one} and {two}",
                f"a video of {one} and {two} taking turns",
                f"{one} and {two} come and go by turns",
            ]
        return Caption(_with_place(rng.choice(forms), scene, rng), SEVERAL_FRAMES)
    forms = [
        f"first {one} then {two}",
        f"first there is {one} and then {two}",
        f"{one} is replaced by {two}",
        f"{one} is followed by {two}",
        f"{one} turns into {two}",
        f"{one} becomes {two}",
        f"a video of {one} turning into {two}",
    ]
    return Caption(_with_place(rng.choice(forms), scene, rng), FRAME_ORDER)


def _objects_only(scene: Scene, rng: random.Random) -> str:
    """What one frame of a changing clip tells: objects and background, nothing that changes."""
    item = rng.choice(scene.items) if scene.event.kind in {"alternate", "replace"} else scene.items[0]
    actor = item is scene.items[0]
    colour = _colour_of_actor(scene) if actor else item.colour
    noun = _noun(item.shape, colour, _size_of_actor(scene) if actor else item.size, rng)
    draw = rng.random()
    text = noun if draw < 0.4 else f"there is {noun}" if draw < 0.75 else f"{rng.choice(_OPENINGS)} {noun}"
    return _with_place(_with_bystander(text, scene, rng), scene, rng, share=0.8)


def _still(scene: Scene, sprites: tuple[Sprite, ...], rng: random.Random) -> str:
    """What a frame tells: objects, their colours, sizes and places, or that there is nothing."""
    if not sprites:
        empty = rng.choice(_EMPTY[scene.background])
        return rng.choice(
            (f"there is only {empty}", f"{empty} and nothing on it", f"an empty picture of {empty}", empty)
        )
    nouns = [_noun(sprite.shape, sprite.seen_colour, sprite.seen_size, rng) for sprite in sprites]
    if len(sprites) == 2:
        return _still_pair(scene, sprites, nouns, rng)
    noun, draw = nouns[0], rng.random()
    position = rng.choice(_POSITIONS[_third(sprites[0].x), _third(sprites[0].y)])
    if draw < 0.15:
        return _with_place(_action(noun, rng.choice(_PREDICATES["rest"]), rng), scene, rng, share=0.8)
    text = noun if draw < 0.4 else f"there is {noun}" if draw < 0.8 else f"{rng.choice(_OPENINGS)} {noun}"
    if rng.random() < 0.45:
        text = f"{text} {position}"
    return _with_place(text, scene, rng, share=0.65)


def _still_pair(scene: Scene, sprites: tuple[Sprite, ...], nouns: list[str], rng: random.Random) -> str:
    order = [0, 1]
    rng.shuffle(order)
    one, two = nouns[order[0]], nouns[order[1]]
    across = sprites[order[1]].x - sprites[order[0]].x
    down = sprites[order[1]].y - sprites[order[0]].y
    if abs(across) >= abs(down):
        side = "left" if across > 0 else "right"
        relations = [f"next to {two}", f"beside {two}", f"to the {side} of {two}", f"on the {side} of {two}"]
    else:
        relations = [f"above {two}", f"over {two}"] if down > 0 else [f"below {two}", f"under {two}"]
    relation = rng.choice([*relations, f"and {two}"])
    opening = rng.choice(("", "", "there is ", f"{rng.choice(_OPENINGS)} "))
    return _with_place(f"{opening}{one} {relation}", scene, rng, share=0.6)


def _noun(shape: str, colour: str | None, size: str | None, rng: random.Random) -> str:
    """A noun phrase with its article; how much it tells is drawn."""
    words = [rng.choice(_NOUNS[shape])]
    if rng.random() < 0.06:
        words = [rng.choice(("object", "shape"))]
    if colour is not None and rng.random() < 0.88:
        words.insert(0, colour)
    if size is not None and rng.random() < 0.35:
        words.insert(0, rng.choice(_SIZE_WORDS[size]))
    return f"{'an' if words[0][0] in 'aeiou' else 'a'} {' '.join(words)}"


def _with_bystander(text: str, scene: Scene, rng: random.Random) -> str:
    """Mention the second item of a scene in which only the first does something."""
    if len(scene.items) < 2 or scene.event.kind in {"alternate", "replace"} or rng.random() < 0.5:
        return text
    item = scene.items[1]
    relation = rng.choice(("next to", "beside", "near"))
    return f"{text} {relation} {_noun(item.shape, item.colour, item.size, rng)}"


def _with_place(text: str, scene: Scene, rng: random.Random, share: float = 0.55) -> str:
    return f"{text} {rng.choice(_PLACES[scene.background])}" if rng.random() < share else text


def _colour_of_actor(scene: Scene) -> str | None:
    """The first item's colour, or nothing where it has two."""
    return None if scene.event.kind in {"recolour", "flicker"} else scene.items[0].colour


def _size_of_actor(scene: Scene) -> str | None:
    """The first item's size, or nothing where it changes."""
    return None if scene.event.kind in {"grow", "shrink", "pulse"} else scene.items[0].size


def _third(share: float) -> int:
    return -1 if share < 0.37 else 1 if share > 0.63 else 0

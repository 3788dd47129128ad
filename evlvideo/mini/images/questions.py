"""Questions about pictures, each with the answers of ten annotators, as in VQAv2.

Half of the yes/no questions of each kind have the answer yes, objects are counted from one to three, and no colour,
shape or background is more frequent than another by design: who does not look at the picture is mostly wrong.
"""

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evlvideo.mini.captions import NOUNS, PLACES
from evlvideo.mini.images.scenes import MOST_OBJECTS
from evlvideo.mini.world import BACKGROUNDS, COLOURS, SHAPES, Item, Scene

ANNOTATORS = 10
YES_NO, NUMBER, OTHER = "yes/no", "number", "other"

_BACKGROUND_NAMES = {
    "grass": ("grass", "lawn"),
    "sky": ("sky", "clouds"),
    "sand": ("sand", "beach"),
    "water": ("water", "sea"),
    "wall": ("wall", "bricks"),
    "night": ("night sky", "stars"),
    "floor": ("floor", "tiles"),
}
_SYNONYM_SHARE, _SLIP_SHARE = 0.08, 0.05
"""How often an annotator uses another name, if there is one, and how often one is wrong."""
_LEAST_OFFSET = 0.2
"""Least distance, as a share of the picture, from which an object is left or right of another."""


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A question about a picture, with all that VQAv2 tells of one."""

    text: str
    question_type: str
    """Its opening, one of those that VQAv2 tells apart."""
    answer_type: str
    """`yes/no`, `number` or `other`."""
    answers: tuple[str, ...]
    """Of ten annotators."""

    @property
    def most_common(self) -> str:
        """The answer that most annotators gave."""
        return Counter(self.answers).most_common(1)[0][0]

    @property
    def with_answer(self) -> str:
        """The question in the published prompt, and its most common answer: a text to train on."""
        return f"Question: {self.text.lower()} Short answer: {self.most_common}"


@dataclass(frozen=True, slots=True)
class _Draft:
    """A question, its right answers from the usual to the less usual, and what a slip may be."""

    text: str
    question_type: str
    answer_type: str
    right: tuple[str, ...]
    wrong: tuple[str, ...]


def ask(scene: Scene, rng: random.Random, number: int) -> list[AskedQuestion]:
    """Ask three questions about a picture: one for yes or no, one for a word, and one for a word or a number.

    Args:
        scene: the picture.
        rng: the only source of randomness.
        number: number of the picture in its split; pictures take turns in what is asked and whether the answer is yes.
    """
    turn, yes = number // 2, number % 2 == 0
    drafts = [_YES_NO[turn % len(_YES_NO)](scene, rng, yes), _OTHER[number % len(_OTHER)](scene, rng)]
    drafts.append(_how_many(scene, rng) if number % 3 == 0 else _OTHER[(number + 1) % len(_OTHER)](scene, rng))
    return [AskedQuestion(draft.text, draft.question_type, draft.answer_type, _answers(draft, rng)) for draft in drafts]


def _answers(draft: _Draft, rng: random.Random) -> tuple[str, ...]:
    return tuple(_answer(draft, rng) for _ in range(ANNOTATORS))


def _answer(draft: _Draft, rng: random.Random) -> str:
    draw = rng.random()
    if draw < _SLIP_SHARE:
        return rng.choice(draft.wrong)
    if draw < _SLIP_SHARE + _SYNONYM_SHARE:
        return rng.choice(draft.right)
    return draft.right[0]


def _yes_no(text: str, question_type: str, yes: bool) -> _Draft:
    answers = ("yes", "no") if yes else ("no", "yes")
    return _Draft(text, question_type, YES_NO, answers[:1], answers[1:])


def _is_there(scene: Scene, rng: random.Random, yes: bool) -> _Draft:
    """Ask for an object; if there is none, its shape or its colour is in the picture, but not both in one object."""
    item = rng.choice(scene.items)
    colour, shape = item.colour, item.shape
    if not yes and rng.random() < 0.5:
        colour = _another(rng, COLOURS, colour)
    elif not yes:
        shape = _another(rng, SHAPES, shape)
    if not yes and any((other.colour, other.shape) == (colour, shape) for other in scene.items):
        return _is_there(scene, rng, yes)
    article = "an" if colour[0] in "aeiou" else "a"
    return _yes_no(f"Is there {article} {colour} {NOUNS[shape][0]} in the picture?", "is there a", yes)


def _is_it_of_colour(scene: Scene, rng: random.Random, yes: bool) -> _Draft:
    item = rng.choice(scene.items)
    colour = item.colour if yes else _another(rng, COLOURS, item.colour)
    return _yes_no(f"Is the {NOUNS[item.shape][0]} {colour}?", "is the", yes)


def _is_it_at(scene: Scene, rng: random.Random, yes: bool) -> _Draft:
    background = scene.background if yes else _another(rng, BACKGROUNDS, scene.background)
    if {background, scene.background} == {"sky", "night"}:  # the night sky is a sky
        return _is_it_at(scene, rng, yes)
    return _yes_no(f"Is this {PLACES[background][0]}?", "is this", yes)


def _is_it_beside(scene: Scene, rng: random.Random, yes: bool) -> _Draft:
    """Ask which of two objects is on the left, if the picture has two that are not one above the other."""
    pairs = [
        (one, two) for one in scene.items for two in scene.items if abs(one.x - two.x) >= _LEAST_OFFSET and one != two
    ]
    if not pairs:
        return _is_it_of_colour(scene, rng, yes)
    one, two = rng.choice(pairs)
    side = "left" if (one.x < two.x) == yes else "right"
    return _yes_no(f"Is the {NOUNS[one.shape][0]} to the {side} of the {NOUNS[two.shape][0]}?", "is the", yes)


def _how_many(scene: Scene, rng: random.Random) -> _Draft:
    count = len(scene.items)
    text = rng.choice(("How many objects are in the picture?", "How many objects are there?"))
    wrong = tuple(str(other) for other in range(1, MOST_OBJECTS + 1) if other != count)
    return _Draft(text, "how many", NUMBER, (str(count),), wrong)


def _what_colour(scene: Scene, rng: random.Random) -> _Draft:
    item = rng.choice(scene.items)
    return _other(f"What color is the {NOUNS[item.shape][0]}?", "what color is the", (item.colour,), COLOURS)


def _what_shape(scene: Scene, rng: random.Random) -> _Draft:
    item = rng.choice(scene.items)
    return _other(f"What is the {item.colour} object?", "what is the", _names(item), _FIRST_NOUNS)


def _what_is_behind(scene: Scene, rng: random.Random) -> _Draft:
    names = _BACKGROUND_NAMES[scene.background]
    return _other(
        "What is in the background?", "what is in the", names, [name for name, _ in _BACKGROUND_NAMES.values()]
    )


def _what_is_beside(scene: Scene, rng: random.Random) -> _Draft:
    """Ask for the one object beside another, if the picture has two."""
    if len(scene.items) != 2:
        return _what_colour(scene, rng)
    one, two = rng.sample(scene.items, 2)
    return _other(f"What is next to the {NOUNS[one.shape][0]}?", "what is", _names(two), _FIRST_NOUNS)


def _other(text: str, question_type: str, right: tuple[str, ...], all_answers: Sequence[str]) -> _Draft:
    return _Draft(text, question_type, OTHER, right, tuple(name for name in all_answers if name not in right))


def _names(item: Item) -> tuple[str, ...]:
    return tuple(dict.fromkeys(NOUNS[item.shape]))


def _another(rng: random.Random, values: Sequence[str], than: str) -> str:
    return rng.choice([value for value in values if value != than])


_FIRST_NOUNS = tuple(names[0] for names in NOUNS.values())
_YES_NO: tuple[Callable[[Scene, random.Random, bool], _Draft], ...] = (
    _is_there,
    _is_it_of_colour,
    _is_it_at,
    _is_it_beside,
)
_OTHER: tuple[Callable[[Scene, random.Random], _Draft], ...] = (
    _what_colour,
    _what_shape,
    _what_is_behind,
    _what_is_beside,
)

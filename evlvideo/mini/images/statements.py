"""Write the mini tasks of statements to disk: pictures, and sentences that are true of them, or not.

The directory of a task holds

    mini_statements.json                  task, seed and sizes
    train.json, validate.json, test.json  ALBEF's lists: {image, sentence, label}, or {images, sentence, label}
    images/train00000.jpg …

Labels are equally frequent. Of entailment, a sentence says something of an object, and half of the time also something
that no picture tells: then it is neutral if the rest is true, and otherwise a contradiction. So the sentence alone,
without the picture, gives at most two thirds; of pairs, about half.
"""

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

from evlvideo.cache import cache_directory
from evlvideo.files import write_json
from evlvideo.mini.captions import NOUNS, PLACES
from evlvideo.mini.images.scenes import sample_picture
from evlvideo.mini.once import build_once
from evlvideo.mini.render import render_clip
from evlvideo.mini.world import BACKGROUNDS, COLOURS, SHAPES, Scene
from evlvideo.progress import Progress

FORMAT_VERSION = 1
"""Increase it if the same seed gives other pictures or sentences."""
SIZES = {"train": 1200, "validate": 200, "test": 400}
"""Pictures of entailment, or pairs, in each split."""

_FACTS_FILE = "mini_statements.json"
_JPEG_QUALITY = 95
_LABELS = {"entailment": ("entailment", "neutral", "contradiction"), "nlvr2": ("True", "False")}
_UNTOLD = ("is heavy", "is made of wood", "is new", "belongs to a child", "is for sale", "was a present")
"""What no picture tells."""


def build_mini_statements(
    task: str, root: Path | None = None, seed: int = 0, progress: bool = True, sizes: Mapping[str, int] = SIZES
) -> Path:
    """Render a task, unless `root` has it already.

    The same seed gives the same files. The directory appears only when it is complete.

    Args:
        task: `entailment` or `nlvr2`.
        root: directory of the task. Defaults to one in the cache; see :func:`evlvideo.cache.cache_directory`.
        seed: seed of pictures and sentences.
        progress: whether to show a progress bar on standard error.
        sizes: pictures, or pairs, of each split.

    Returns:
        the directory.

    Raises:
        UserError: `root` holds something else, or cannot be written.
    """
    facts = {"version": FORMAT_VERSION, "task": task, "seed": seed, "sizes": dict(sizes)}
    root = cache_directory() / f"mini_{task}-{FORMAT_VERSION}-{seed}" if root is None else root
    console = Console(stderr=True) if progress else None
    return build_once(root, f"mini {task} task", _FACTS_FILE, facts, lambda building: _build(building, facts, console))


def _build(root: Path, facts: Mapping[str, Any], console: Console | None) -> None:
    (root / "images").mkdir()
    write = _entailment if facts["task"] == "entailment" else _pairs
    with Progress(f"rendering the mini {facts['task']} task", sum(facts["sizes"].values()), console=console) as done:
        for split, size in facts["sizes"].items():
            entries: list[dict[str, Any]] = []
            for index in range(size):
                rng = random.Random(f"mini_{facts['task']}/{FORMAT_VERSION}/{facts['seed']}/{split}/{index}")
                entries += write(root, rng, split, index)
                done.advance()
            write_json(root / f"{split}.json", entries)


def _rendered(root: Path, scene: Scene, name: str) -> str:
    Image.fromarray(render_clip(scene)[0]).save(root / "images" / name, "JPEG", quality=_JPEG_QUALITY)
    return f"images/{name}"


def _entailment(root: Path, rng: random.Random, split: str, index: int) -> Iterator[dict[str, Any]]:
    scene = sample_picture(rng, split)
    image = _rendered(root, scene, f"{split}{index:05}.jpg")
    for label in _LABELS["entailment"]:
        yield {"image": image, "sentence": describe(scene, rng, label), "label": label}


def describe(scene: Scene, rng: random.Random, label: str) -> str:
    """Write a sentence that a scene entails, contradicts or leaves open.

    Args:
        scene: the picture.
        rng: the only source of randomness.
        label: `entailment`, `contradiction` or `neutral`.
    """
    is_true = label != "contradiction"
    untold = label == "neutral" or (label == "contradiction" and rng.random() < 0.5)
    item = rng.choice(scene.items)
    colour, shape, background = item.colour, item.shape, scene.background
    told = rng.choice(("object", "place"))
    if not is_true and told == "object":
        colour, shape = _absent(scene, rng)
    elif not is_true:
        background = _elsewhere(scene.background, rng)
    noun = f"the {colour} {NOUNS[shape][0]}" if untold or told == "place" else f"{_a(colour)} {NOUNS[shape][0]}"
    where = f" {PLACES[background][0]}" if told == "place" else ""
    if untold:
        return f"{noun}{where} {rng.choice(_UNTOLD)}"
    return f"{noun} is{where}" if where else f"there is {noun} in the picture"


def _absent(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Return a colour and a shape of which the picture has one, or the other, but not both in one object."""
    item = rng.choice(scene.items)
    while True:
        other = rng.random() < 0.5
        pair = (rng.choice(COLOURS), item.shape) if other else (item.colour, rng.choice(SHAPES))
        if pair not in {(one.colour, one.shape) for one in scene.items}:
            return pair


def _elsewhere(background: str, rng: random.Random) -> str:
    """Return another background; the night sky is a sky."""
    sky = {"sky", "night"}
    return rng.choice([one for one in BACKGROUNDS if one != background and {one, background} != sky])


def _pairs(root: Path, rng: random.Random, split: str, index: int) -> Iterator[dict[str, Any]]:
    left, right = sample_picture(rng, split), sample_picture(rng, split)
    images = [
        _rendered(root, scene, f"{split}{index:05}-img{number}.jpg") for number, scene in enumerate((left, right))
    ]
    for label in _LABELS["nlvr2"]:
        yield {"images": images, "sentence": compare(left, right, rng, label == "True"), "label": label}


def compare(left: Scene, right: Scene, rng: random.Random, truth: bool) -> str:
    """Write a sentence about two scenes that is true or false.

    Args:
        left: the first picture.
        right: the second one.
        rng: the only source of randomness.
        truth: whether it is true.
    """
    kinds = ["object", "place", "total"] + (["more"] if len(left.items) != len(right.items) else [])
    kind, is_left = rng.choice(kinds), rng.random() < 0.5
    scene, side = (left, "left") if is_left else (right, "right")
    if kind == "object":
        item = rng.choice(scene.items)
        colour, shape = (item.colour, item.shape) if truth else _absent(scene, rng)
        return f"there is {_a(colour)} {NOUNS[shape][0]} in the {side} picture"
    if kind == "place":
        background = scene.background if truth else _elsewhere(scene.background, rng)
        return f"the {side} picture was taken {PLACES[background][0]}"
    if kind == "more":
        has_more = (len(left.items) > len(right.items)) == is_left
        return f"there are {'more' if has_more == truth else 'fewer'} objects in the {side} picture"
    total = len(left.items) + len(right.items)
    counts = [count for count in range(2, 7) if count != total]
    return f"there are {total if truth else rng.choice(counts)} objects in the two pictures"


def _a(colour: str) -> str:
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour}"

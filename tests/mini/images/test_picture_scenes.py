"""Still scenes: what is in them, and what is held out between splits."""

import random
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from evlvideo.mini.captions import write_picture_captions
from evlvideo.mini.images import scenes
from evlvideo.mini.render import item_masks
from evlvideo.mini.world import CAMOUFLAGE, COLOURS, Scene

SPLITS = ("train", "validate", "test")


def pictures(split: str, count: int, seed: int = 0) -> list[Scene]:
    rng = random.Random(seed)
    return [scenes.sample_picture(rng, split) for _ in range(count)]


@pytest.mark.parametrize("split", SPLITS)
def test_pictures_have_one_to_three_objects_equally_often(split: str) -> None:
    counts = Counter(len(scene.items) for scene in pictures(split, 600))
    assert set(counts) == {1, 2, 3}
    assert min(counts.values()) > 160


def test_no_object_of_a_split_is_in_another() -> None:
    shown = {
        split: {(item.shape, item.colour, scene.background) for scene in pictures(split, 400) for item in scene.items}
        for split in SPLITS
    }
    assert all(not shown[one] & shown[other] for one, other in combinations(SPLITS, 2))
    assert {colour for _, colour, _ in shown["test"]} == set(COLOURS)


def test_objects_of_a_picture_differ_and_stand_out() -> None:
    for scene in pictures("train", 200):
        assert len({item.shape for item in scene.items}) == len({item.colour for item in scene.items})
        assert len({item.shape for item in scene.items}) == len(scene.items)
        assert not CAMOUFLAGE[scene.background] & {item.colour for item in scene.items}


def test_objects_do_not_cover_each_other() -> None:
    for scene in pictures("train", 60):
        covered = np.sum([mask > 0.5 for mask in item_masks(scene, 64)], axis=0)
        assert covered.max() == 1


def test_captions_name_what_is_in_the_picture_and_nothing_that_moves() -> None:
    rng = random.Random(1)
    for scene in pictures("test", 100):
        for caption in write_picture_captions(scene, rng, 5):
            words = caption.text.replace("green field", "field").split()
            named = {word for word in words if word in COLOURS}
            assert named <= {item.colour for item in scene.items}
            assert not {"video", "clip", "animation"} & set(words)


def test_captions_of_three_objects_name_any_two() -> None:
    scene = next(scene for scene in pictures("train", 20) if len(scene.items) == 3)
    captions = write_picture_captions(scene, random.Random(2), 30)
    texts = [caption.text.replace("green field", "field").split() for caption in captions]
    named = {frozenset(word for word in text if word in COLOURS) for text in texts}
    assert all(len(colours) <= 2 for colours in named)
    assert sum(len(colours) == 2 for colours in named) == 3

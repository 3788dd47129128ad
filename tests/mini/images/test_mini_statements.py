"""The mini tasks of statements: what they say of the pictures, and how little the sentences alone give away."""

import json
import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from evlvideo.errors import UserError
from evlvideo.mini.captions import NOUNS, PLACES
from evlvideo.mini.images.scenes import sample_picture
from evlvideo.mini.images.statements import build_mini_statements, compare, describe
from evlvideo.mini.world import Scene

SIZES = {"train": 4, "validate": 2, "test": 2}
UNTOLD = ("heavy", "wood", "new", "child", "sale", "present")


def shows(scene: Scene, sentence: str) -> bool:
    """Whether a scene shows the object and the place that a sentence names."""
    words = sentence.split()
    objects = [
        (item.colour in words) and (NOUNS[item.shape][0] in words) for item in scene.items
    ]  # every sentence names one object
    named = [background for background, places in PLACES.items() if f" {places[0]}" in sentence]
    night = {"sky", "night"} <= {*named, scene.background}
    return any(objects) and (not named or scene.background in named or night)


def says_more(sentence: str) -> bool:
    """Whether a sentence says what no picture tells."""
    return any(word in sentence for word in UNTOLD)


@pytest.mark.parametrize("split", ["train", "validate", "test"])
def test_sentences_are_what_their_label_says(split: str) -> None:
    rng = random.Random(0)
    for _ in range(100):
        scene = sample_picture(rng, split)
        for label in ("entailment", "neutral", "contradiction"):
            sentence = describe(scene, rng, label)
            kind = "neutral" if says_more(sentence) else "entailment"
            expected = kind if shows(scene, sentence) else "contradiction"
            assert label == expected, (scene, sentence)


def test_half_of_the_contradictions_say_what_no_picture_tells() -> None:
    rng = random.Random(0)
    scene = sample_picture(rng, "train")
    told = [says_more(describe(scene, rng, "contradiction")) for _ in range(1000)]
    assert 0.45 < sum(told) / len(told) < 0.55


def test_comparisons_are_true_or_false() -> None:
    rng = random.Random(0)
    for _ in range(300):
        left, right = sample_picture(rng, "train"), sample_picture(rng, "train")
        for truth in (True, False):
            sentence = compare(left, right, rng, truth)
            scene, other = (left, right) if "left" in sentence else (right, left)
            if "two pictures" in sentence:
                holds = f"{len(left.items) + len(right.items)} objects" in sentence
            elif "more" in sentence or "fewer" in sentence:
                holds = (len(scene.items) > len(other.items)) == ("more" in sentence)
            elif "taken" in sentence:
                holds = PLACES[scene.background][0] in sentence
            else:
                holds = shows(scene, sentence)
            assert holds == truth, (left, right, sentence)


@pytest.mark.parametrize(("task", "most"), [("entailment", 2 / 3), ("nlvr2", 1 / 2)])
def test_sentences_alone_give_little_away(task: str, most: float) -> None:
    """The best guess by whether a sentence says what no picture tells, or by its kind."""
    rng = random.Random(1)
    counts: defaultdict[object, Counter[object]] = defaultdict(Counter)
    for _ in range(1000):
        left, right = sample_picture(rng, "train"), sample_picture(rng, "train")
        for label in ("entailment", "neutral", "contradiction") if task == "entailment" else (True, False):
            if isinstance(label, str):
                kind: object = says_more(describe(left, rng, label))
            else:
                sentence = compare(left, right, rng, label)
                kind = next(word for word in ("more", "fewer", "taken", "two", "there") if word in sentence)
            counts[kind][label] += 1
    right_guesses = sum(max(labels.values()) for labels in counts.values())
    assert right_guesses / sum(labels.total() for labels in counts.values()) < most + 0.04


@pytest.mark.parametrize("task", ["entailment", "nlvr2"])
def test_the_same_seed_gives_the_same_files(task: str, tmp_path: Path) -> None:
    one, other = (
        build_mini_statements(task, tmp_path / name, progress=False, sizes=SIZES) for name in ("one", "other")
    )
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) == 4 + 8 * (2 if task == "nlvr2" else 1)
    assert all((one / file).read_bytes() == (other / file).read_bytes() for file in files)
    entries = json.loads((one / "train.json").read_text())
    assert len(set(Counter(entry["label"] for entry in entries).values())) == 1
    with pytest.raises(UserError, match="holds another build"):
        build_mini_statements(task, one, seed=1, progress=False, sizes=SIZES)

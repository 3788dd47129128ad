import random
import time

import pytest

from evlvideo.errors import UserError
from evlvideo.training.rewards import CiderReward

REFERENCES = {
    "one": ["A man is playing a guitar.", "Someone's playing the guitar"],
    "two": ["a dog runs on the grass", "a brown dog is running"],
}


def test_better_caption_gets_more() -> None:
    good, bad, empty = CiderReward(REFERENCES)(["a man is playing a guitar", "a man", ""], ["one"] * 3, [True] * 3)
    assert good > bad > empty >= 0


def test_references_are_those_of_the_clip() -> None:
    own, other = CiderReward(REFERENCES)(["a brown dog is running"] * 2, ["two", "one"], [True] * 2)
    assert own > other


def test_captions_and_references_are_tokenised_alike() -> None:
    plain, written = CiderReward(REFERENCES)(
        ["someone 's playing the guitar", "Someone's playing the guitar!"], ["one"] * 2, [True] * 2
    )
    assert plain == written > 0


def test_ending_is_rewarded_only_with_end_of_text() -> None:
    captions, clips = ["a brown dog is running"] * 2, ["two"] * 2
    ended, cut = CiderReward(REFERENCES)(captions, clips, [True, False])
    assert ended > cut
    ended, cut = CiderReward(REFERENCES, end_of_text=False)(captions, clips, [True, False])
    assert ended == cut


def test_reward_does_not_depend_on_the_batch() -> None:
    reward = CiderReward(REFERENCES)
    captions, clips = ["a man runs", "a dog runs", "a guitar"], ["one", "two", "one"]
    together = reward(captions, clips, [True] * 3)
    alone = [CiderReward(REFERENCES)([c], [i], [True])[0] for c, i in zip(captions, clips, strict=True)]
    assert together == alone
    assert reward(captions[::-1], clips[::-1], [True] * 3) == together[::-1]


def test_frequencies_of_other_documents() -> None:
    documents = [["a man walks"], ["a man sits"], ["a man stands"]]
    own = CiderReward(REFERENCES)(["a man"], ["one"], [False])
    other = CiderReward(REFERENCES, documents)(["a man"], ["one"], [False])
    assert own != other


def test_unknown_clip() -> None:
    with pytest.raises(UserError, match="'three'"):
        CiderReward(REFERENCES)(["a man"], ["three"], [True])


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="zip"):
        CiderReward(REFERENCES)(["a man"], ["one", "two"], [True])


def test_a_batch_takes_milliseconds() -> None:
    draw = random.Random(0)
    vocabulary = [f"word{i}" for i in range(500)]

    def caption() -> str:
        return " ".join(draw.choices(vocabulary, k=10))

    references = {f"clip{i}": [caption() for _ in range(20)] for i in range(16)}
    reward = CiderReward(references)
    batch = [caption() for _ in range(80)], [f"clip{i % 16}" for i in range(80)], [True] * 80
    reward(*batch)
    start = time.perf_counter()
    reward(*batch)
    # About 5 ms on one core; the limit leaves room for a busy machine.
    assert time.perf_counter() - start < 0.1

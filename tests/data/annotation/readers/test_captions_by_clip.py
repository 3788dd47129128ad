from pathlib import Path

import pytest

from evlvideo.data.annotation.readers.captions_by_clip import CaptionsByClip
from evlvideo.errors import UserError


def listed(*captions: tuple[str, str, int]) -> CaptionsByClip:
    found = CaptionsByClip()
    for clip_id, caption, rank in captions:
        found.add(clip_id, caption, rank)
    return found


def test_captions_come_clip_by_clip_and_by_their_rank() -> None:
    captions = listed(("b", "second", 7), ("a", "only", 1), ("b", "first", -3), ("b", "third", 7))
    assert list(captions.of_clips(Path("x"), ["a", "b"])) == [("only",), ("first", "second", "third")]


def test_none_of_none_are_none() -> None:
    assert list(listed().of_clips(Path("x"), [])) == []


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["b", "a", "b", "b", "a"], "x lists b, a more than once"),
        (["a"], "x has captions of b, not among its clips"),
        ([], "x has captions of a, b, not among its clips"),
        (["a", "d", "b", "c"], "x has no captions of d, c; every clip needs at least one"),
    ],
)
def test_lists_that_do_not_belong_together_are_refused(ids: list[str], message: str) -> None:
    captions = listed(("a", "one", 0), ("b", "two", 0), ("b", "three", 0))
    with pytest.raises(UserError, match=message):
        list(captions.of_clips(Path("x"), ids))

"""Some of a split's clips, the same ones for every seed."""

from pathlib import Path

import pytest

from evlvideo.data.annotation.captioned_clip import CaptionedClip
from evlvideo.data.annotation.clip_table import ClipTable
from evlvideo.data.annotation.sample import sample_clips
from evlvideo.errors import UserError


def clips(count: int, *, reverse: bool = False) -> ClipTable:
    numbers = reversed(range(count)) if reverse else range(count)
    return ClipTable(CaptionedClip(f"video{number}", Path(f"{number}.mp4"), ("a cat",)) for number in numbers)


def test_drawn_clips_are_in_the_order_of_the_annotation() -> None:
    drawn = [int(clip.clip_id.removeprefix("video")) for clip in sample_clips(clips(1000), 50, "x:train")]
    assert len(drawn) == 50
    assert drawn == sorted(set(drawn))
    assert drawn != list(range(50))


def test_a_larger_sample_holds_the_smaller_one() -> None:
    small, large = (set(sample_clips(clips(1000), count, "x:train").ids) for count in (50, 200))
    assert small < large


def test_the_draw_does_not_depend_on_the_order_of_the_annotation() -> None:
    drawn = sample_clips(clips(1000), 50, "x:train")
    assert sorted(sample_clips(clips(1000, reverse=True), 50, "x:train").ids) == sorted(drawn.ids)


def test_drawn_clips_are_spread_over_the_annotation() -> None:
    numbers = [int(name.removeprefix("video")) for name in sample_clips(clips(10_000), 1000, "x:train").ids]
    for tenth in range(10):
        assert 70 < sum(number // 1000 == tenth for number in numbers) < 130


def test_all_clips_may_be_asked_for_and_no_more() -> None:
    assert sample_clips(clips(3), 3, "x:train").ids == ["video0", "video1", "video2"]
    with pytest.raises(UserError, match="4 clips of x:train are asked for, but it has 3; ask for fewer"):
        sample_clips(clips(3), 4, "x:train")

import tracemalloc

import pytest

from evlvideo.data.annotation.readers import unique_ids
from evlvideo.data.annotation.readers.unique_ids import UniqueIds
from evlvideo.errors import UserError


def take(*ids: str) -> None:
    seen = UniqueIds()
    for number, clip_id in enumerate(ids):
        seen.add(f"line {number}", clip_id)
    seen.check()


@pytest.mark.parametrize("at_a_time", [1, 2, 3, 100])
@pytest.mark.parametrize("apart", [1, 2, 5, 40])
def test_a_second_one_is_named_with_its_place(monkeypatch: pytest.MonkeyPatch, at_a_time: int, apart: int) -> None:
    monkeypatch.setattr(unique_ids, "_AT_A_TIME", at_a_time)
    ids = [f"video{number}" for number in range(50)]
    take(*ids)
    with pytest.raises(UserError, match=f"^line {7 + apart}: the clip 'video7' is listed a second time; keep one"):
        take(*ids[: 7 + apart], "video7", *ids[7 + apart :])


def test_none_are_new() -> None:
    take()


def test_an_id_takes_little_more_than_its_hash() -> None:
    seen = UniqueIds()
    tracemalloc.start()
    for number in range(200_000):
        seen.add("here", f"video{number}")
    seen.check()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert held / 200_000 < 10

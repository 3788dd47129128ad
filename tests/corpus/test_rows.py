"""Rows keep their ids, and stand in columns."""

import hashlib
import pickle

import pytest

from evlvideo.corpus.rows import Row, Rows, row_id
from evlvideo.errors import UserError

ROWS = [Row("a", "/clips/a.mp4"), Row("b", "/clips/b.mp4", 1.5, 3), Row("c", "/shard.tar::c.jpg", None, 2.0)]


def test_an_id_is_the_hash_of_path_and_times() -> None:
    assert row_id("/a.mp4") == hashlib.sha256(b"/a.mp4\0\0").hexdigest()[:16]
    assert row_id("/a.mp4", 1, 2.5) == hashlib.sha256(b"/a.mp4\x001.0\x002.5").hexdigest()[:16]
    assert len({row_id("/a.mp4", *times) for times in [(None, None), (1, None), (None, 1), (1, 1)]}) == 4


def test_rows_stand_in_columns_and_come_out_as_they_were() -> None:
    rows = Rows.of(ROWS)
    assert list(rows) == [rows[number] for number in range(3)] == ROWS
    assert (len(rows), rows[-1], list(rows[1:]), list(rows[::2])) == (3, ROWS[2], ROWS[1:], ROWS[::2])
    assert list(pickle.loads(pickle.dumps(rows))) == ROWS
    assert list(Rows.of([])) == []
    with pytest.raises(IndexError, match="The index is 3; there are 3 rows"):
        rows[3]


def test_rows_that_are_known_are_left_out() -> None:
    rows = Rows.of(ROWS)
    assert list(rows.beside(Rows.of([ROWS[1], Row("unknown", "/d.mp4")]).table)) == [ROWS[0], ROWS[2]]
    assert list(rows.beside(Rows.of([]).table)) == ROWS
    assert list(rows[:2].joined(rows[1:])) == ROWS


@pytest.mark.parametrize(
    "other", [Row("b", "/else.mp4", 1.5, 3), Row("b", "/clips/b.mp4"), Row("b", "/clips/b.mp4", 1.5)]
)
def test_an_id_that_is_known_for_something_else_is_refused(other: Row) -> None:
    with pytest.raises(UserError, match=r"The id 'b' stands for several rows: .* and /clips/b.mp4 from 1.5 s to 3.0"):
        Rows.of(ROWS).beside(Rows.of([other]).table)


def test_an_id_of_two_rows_is_refused_by_name() -> None:
    assert list(Rows.of(ROWS).check_unique()) == ROWS
    with pytest.raises(UserError, match=r"The id 'a' stands for several rows: /clips/a.mp4, /other.mp4. Each row"):
        Rows.of([*ROWS, Row("a", "/other.mp4")]).check_unique()

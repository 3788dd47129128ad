import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evlvideo.data.annotation.readers import json_stream
from evlvideo.data.annotation.readers.json_stream import stream_list, stream_objects
from evlvideo.errors import UserError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json") / "file.json"


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_PIECE", 3)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(VALUES, max_size=5), indent=st.sampled_from([None, 2]), plain=st.booleans())
def test_lists_are_read_as_the_library_reads_them(
    file: Path, values: list[Any], indent: int | None, plain: bool
) -> None:
    file.write_text(json.dumps(values, indent=indent, ensure_ascii=plain), encoding="utf-8", errors="surrogatepass")
    assert list(stream_list(file)) == values


@settings(max_examples=60, deadline=None)
@given(before=VALUES, objects=st.lists(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), max_size=4))
def test_objects_are_found_between_other_values(file: Path, before: Any, objects: list[dict[str, Any]]) -> None:
    file.write_text(json.dumps({"info": before, "a": objects, "more": before, "b": objects[:1]}))
    found = list(stream_objects(file, "b", "a"))
    assert [entry for key, _, entry in found if key == "a"] == objects
    assert [(key, place) for key, place, _ in found] == [
        *(("a", f"{file}, a[{number}]") for number in range(len(objects))),
        *(("b", f"{file}, b[0]") for _ in objects[:1]),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": [{}]', "is not a JSON file: Expecting ',' delimiter: line 1 column 11"),
        ('{"a": [{} {}]}', "is not a JSON file: Expecting ',' delimiter: line 1 column 11"),
        ('{"a": [{"b": ]}', r"is not a JSON file: Expecting value: line 1 column 14"),
        ('{"a": [{"b": 1},\n {"b": "\\uD83D x"}]}', r"file: \\uD83D is half of a character: line 2 column 9"),
        ('{"a": []} x', "is not a JSON file: Extra data"),
        ('{"a": []', "is not a JSON file"),
        ("", "is not a JSON file: Expecting value"),
        ("[" * 100_000, "is not a JSON file: maximum recursion"),
        ("[{}]", "holds a JSON list; an object with clips"),
        ("3", "holds a JSON int"),
        ("{}", "has no list of objects under 'a'"),
        ('{"a": 3}', "has no list of objects under 'a'"),
        ('{"a": [{}, 3]}', "has no list of objects under 'a'"),
        ('{"b": [{}]}', "has no list of objects under 'a'"),
    ],
)
def test_what_is_no_such_object_is_refused(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        list(stream_objects(file, "a"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}', "holds a JSON dict; a list of entries is needed"),
        ("[1, 2", "is not a JSON file: Expecting ',' delimiter: line 1 column 6"),
        ("[1] 2", "is not a JSON file: Extra data"),
    ],
)
def test_what_is_no_list_is_refused(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        list(stream_list(file))


def test_a_file_that_is_not_utf8_is_refused(file: Path) -> None:
    file.write_bytes(b'["caf\xe9"]')
    with pytest.raises(UserError, match="is not a JSON file: 'utf-8' codec"):
        list(stream_list(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json cannot be read: No such file"):
        list(stream_list(tmp_path / "none.json"))


def test_byte_order_marks_are_passed_over(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf[1]")
    assert list(stream_list(file)) == [1]


def test_the_file_is_not_held(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_PIECE", 1 << 16)
    file.write_text(json.dumps([{"caption": "a word " * 50}] * 20_000))
    tracemalloc.start()
    assert sum(1 for _ in stream_list(file)) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000 < file.stat().st_size / 7

from pathlib import Path

import pytest

from evlvideo.data.annotation.readers.text_files import find_file, read_json_lines, read_lines, read_table
from evlvideo.errors import UserError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "file"


def test_lines_lose_byte_order_mark_and_their_ends(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbfa\r\nb\n\r\n\xc3\xa9")
    assert list(read_lines(file)) == [(1, "a"), (2, "b"), (3, ""), (4, "é")]


def test_a_line_that_is_not_utf8_is_named(file: Path) -> None:
    file.write_bytes(b"good\ncaf\xe9\n")
    with pytest.raises(UserError, match=r"file, line 2 is not UTF-8 .* at byte 3 of the line.*iconv"):
        list(read_lines(file))


def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        list(read_lines(file))


def test_json_lines_have_places(file: Path) -> None:
    file.write_text('{"a": 1}\n\n  \n{"a": 2}\n')
    assert list(read_json_lines(file)) == [(f"{file}, line 1", {"a": 1}), (f"{file}, line 4", {"a": 2})]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[1]", r"line 2 holds \[1\]; write one JSON object a line"),
        ("7" * 5000, "line 2 is not JSON: Exceeds the limit"),
        ("[" * 100_000, "line 2 is not JSON: maximum recursion"),
    ],
)
def test_lines_that_are_no_objects_are_refused(file: Path, line: str, message: str) -> None:
    file.write_text("{}\n" + line)
    with pytest.raises(UserError, match=message):
        list(read_json_lines(file))


def test_a_table_gives_the_columns_asked_for(file: Path) -> None:
    file.write_bytes(b'\xef\xbb\xbfx,y,z\r\n1,"two, with\nan end",3\r\n\r\n4,5,6\r\n')
    rows = list(read_table(file, ("z", "y"), optional=("w",)))
    assert rows == [(f"{file}, line 3", ["3", "two, with\nan end", ""]), (f"{file}, line 5", ["6", "5", ""])]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no column a, b; its header is ''"),
        ("a\n", "has no column b; its header is 'a'"),
        ("a,b\n1\n", "line 2: 1 values for 2 columns"),
        ("a,b\n1,2,3\n", "line 2: 3 values for 2 columns; quote values that hold commas"),
        ("a,b\n1," + "x" * 200_000 + "\n", "line 2: field larger than field limit"),
    ],
)
def test_malformed_tables_are_refused(file: Path, content: str, message: str) -> None:
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        list(read_table(file, ("a", "b")))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('1,"5 inch\n2,b\n3,c\n', "line 2 opens a quote that does not end as it should by line 4 "),
        ('1,"5 inch', "line 2 opens a quote that does not end as it should by line 2 "),
        ('1,"a\nb"\n2,"c\n""d""\n', "line 4 opens a quote"),
        ('1,"a\nb","c\nd\n', "line 3 opens a quote"),
        ('1,"5 inch\n2,"b, c"\n', r"line 2 opens a quote .* by line 3 \("),
        ('1,"a\nb"\n2,"a "big" dog"\n', "line 4: ',' expected after '\"'"),
        ('1,"' + "b\n" * 200_000, "line 2 opens a quote .*field larger than field limit"),
    ],
)
def test_the_line_that_opens_a_quote_is_named(file: Path, rows: str, message: str) -> None:
    file.write_text("x,y\n" + rows)
    with pytest.raises(UserError, match=message):
        list(read_table(file, ("x", "y")))


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_quotes_that_end_are_read(file: Path, end: str) -> None:
    file.write_bytes(f'x,y\n"1",""\n2,"say ""a\nb"""\n3,5" knife{end}'.encode())
    assert [row for _, row in read_table(file, ("x", "y"))] == [["1", ""], ["2", 'say "a\nb"'], ["3", '5" knife']]


def test_half_a_character_is_named_with_its_line(file: Path) -> None:
    file.write_text('{"a": "\\ud83d\\ude00 \\\\ud83d"}\n{"a": "a cat \\ud83d"}\n')
    lines = read_json_lines(file)
    assert next(lines)[1] == {"a": "\U0001f600 \\ud83d"}
    with pytest.raises(UserError, match=r"line 2 is not JSON: \\ud83d is half of a character"):
        next(lines)


def test_files_are_found_by_their_first_name(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "b").touch()
    assert find_file(tmp_path, "a", "b") == tmp_path / "annotations" / "b"
    with pytest.raises(UserError, match="There is no c or d in"):
        find_file(tmp_path, "c", "d")

import csv
import io

from rich.console import Console

from evlvideo.comparison.rows.row import Row
from evlvideo.comparison.tables.formats import to_csv, to_markdown, to_records, to_rich
from evlvideo.comparison.tables.table import Table, build_table


def table(first: str = "mean") -> Table:
    values = {"cider": 0.5, "trained_parameters": 1234567, "training_seconds": 61.4}
    reasons = {"meteor": "no Java runtime."}
    return build_table(
        "MSR-VTT, test split",
        [
            Row(first, "trained", values, reasons, 6, 6),
            Row("half", "trained", {"cider": 0.7}, {}, 3, 6),
            Row(
                "best",
                "trained",
                {"cider": 0.6},
                {},
                6,
                6,
                intervals={"cider": (0.55, 0.651)},
                p_values={"cider": 0.02},
            ),
            Row("other", "quoted", {"cider": 0.9}, source="a paper"),
        ],
    )


def test_markdown_marks_what_sets_a_row_apart():
    text = to_markdown(table())
    assert "| best (trained) | **60.0†** (55.0–65.1) |" in text
    assert "| half (trained) (3 of 6 clips) | 70.0 |" in text
    assert "| other (quoted) | 90.0 |" in text
    assert "| –¹ |" in text
    assert "¹ METEOR: no Java runtime." in text


def test_a_name_cannot_leave_its_markdown_cell():
    line = to_markdown(table("<b>|`x`\n[y](z)_")).splitlines()[4]
    assert line.startswith(r"| \<b\>\|\`x\` \[y\](z)\_ (trained) |")


def test_csv_has_plain_numbers_and_says_how_each_row_came_about():
    rows = list(csv.DictReader(io.StringIO(to_csv(table()))))
    assert rows[0]["cider"] == "50.0"
    assert rows[0]["trained_parameters"] == "1234567"
    assert rows[0]["meteor"] == ""
    assert [row["regime"] for row in rows] == ["trained", "trained", "trained", "quoted"]
    assert (rows[1]["clips_scored"], rows[1]["clips_expected"]) == ("3", "6")
    assert [rows[2][key] for key in ("cider", "cider_low", "cider_high", "cider_p")] == ["60.0", "55.0", "65.1", "0.02"]
    assert rows[1]["cider_low"] == ""


def test_records_keep_full_precision():
    record = to_records(table())[0]
    assert record["values"]["cider"] == 0.5
    assert record["values"]["training_seconds"] == 61.4
    assert record["not_scored"] == {"meteor": "no Java runtime."}
    assert to_records(table())[2]["intervals"] == {"cider": (0.55, 0.651)}


def test_the_terminal_shows_names_as_they_are_in_80_columns():
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(to_rich(table("[red]x")))
    text = console.export_text()
    assert "[red]x" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "60.0†" in text
    assert "55.0–65.1" in text
    assert all(title in text for title in ("CIDEr", "BLEU-4", "METEOR", "ROUGE-L", "parameters", "seconds"))

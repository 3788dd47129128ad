"""A table for the terminal, for Markdown, for spreadsheets and for programs."""

import csv
import io
import re
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from evlvideo.comparison.table import Cell, Row, Table

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def to_rich(table: Table) -> RenderableType:
    """Draw the table for a terminal. Names are taken as they are, never as markup."""
    drawn = RichTable(
        title=Text(table.title), title_justify="left", header_style="bold", box=SIMPLE_HEAD, padding=0, show_edge=False
    )
    drawn.add_column("system", overflow="fold", vertical="bottom", min_width=10)
    for index, column in enumerate(table.columns):
        # As narrow as its numbers and the words of its title allow: names need the room.
        texts = [*column.title.split(), *(_plain(row.cells[index]) for row in table.rows)]
        drawn.add_column(column.title, justify="right", vertical="bottom", width=max(map(len, texts)))
    for row in table.rows:
        cells = [Text(_plain(cell), style="bold" if cell.best else "") for cell in row.cells]
        drawn.add_row(Text(_label(row), style="dim" if row.entry.regime == "quoted" else ""), *cells)
    return Group(drawn, *(Text(line, style="dim") for line in _below(table)))


def to_markdown(table: Table) -> str:
    """Write the table as GitHub's Markdown, the best values bold."""
    titles = [column.title for column in table.columns]
    lines = [
        f"**{_escape(table.title)}**",
        "",
        _line(["system", *titles]),
        _line(["---", *("---:" for _ in titles)]),
    ]
    for row in table.rows:
        cells = [f"**{_plain(cell)}**" if cell.best else _plain(cell) for cell in row.cells]
        lines.append(_line([_escape(_label(row)), *cells]))
    below = [line for remark in _below(table) for line in ("", _escape(remark))]
    return "\n".join([*lines, *below]) + "\n"


def to_csv(table: Table) -> str:
    """Write the table as CSV with plain numbers: scores ×100 with one decimal, nothing where there is no value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["system", "regime", "clips_scored", "clips_expected", *(column.key for column in table.columns)])
    for row in table.rows:
        entry = row.entry
        numbers = ["" if cell.value is None else cell.text.replace(",", "") for cell in row.cells]
        writer.writerow([entry.name, entry.regime, entry.clips_scored, entry.clips_expected, *numbers])
    return out.getvalue()


def to_records(table: Table) -> list[dict[str, Any]]:
    """Give the rows in full precision, scores as fractions, for JSON."""
    return [
        {
            "system": row.entry.name,
            "regime": row.entry.regime,
            "source": row.entry.source,
            "clips_scored": row.entry.clips_scored,
            "clips_expected": row.entry.clips_expected,
            "values": {column.key: cell.value for column, cell in zip(table.columns, row.cells, strict=True)},
            "not_scored": dict(row.entry.reasons),
        }
        for row in table.rows
    ]


def _label(row: Row) -> str:
    return " ".join([row.entry.name, *(f"({tag})" for tag in row.tags)])


def _plain(cell: Cell) -> str:
    return cell.text if cell.note is None else cell.text + str(cell.note).translate(_SUPERSCRIPTS)


def _below(table: Table) -> list[str]:
    numbered = [
        f"{str(number).translate(_SUPERSCRIPTS)} {text}" for number, text in enumerate(table.footnotes, start=1)
    ]
    return [*numbered, *table.remarks]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(text: str) -> str:
    """Keep text from being read as Markdown or HTML, or from ending the table's line."""
    return re.sub(r"([\\`*_\[\]<>|~])", r"\\\1", " ".join(text.split())).replace("&", "&amp;")

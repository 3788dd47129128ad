"""Writes a table for the terminal and as Markdown, CSV and JSON records. For LaTeX see `latex`."""

import csv
import io
import re
from collections.abc import Sequence
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from evlvideo.comparison.tables.table import Cell, Column, PrintedRow, Table

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def to_rich(table: Table) -> RenderableType:
    """Draw the table for a terminal, in parts that fit 80 columns: scores with intervals below them, groups, costs.

    Names are never read as markup.
    """
    drawn: list[RenderableType] = []
    for title, columns in table.parts.items():
        drawn += [*([Text()] if drawn else []), _draw(table, columns, title)]
    return Group(*drawn, *(Text(line, style="dim") for line in _below(table)))


def _draw(table: Table, columns: Sequence[int], title: str) -> RichTable:
    """Draw some columns, with the rows that have a value in them."""
    rows = table.rows_with(columns)
    # Names align with scores, not with the intervals below them.
    vertical: Literal["top", "bottom"] = (
        "top" if any(row.cells[index].interval for row in rows for index in columns) else "bottom"
    )
    drawn = RichTable(
        title=Text(title),
        title_justify="left",
        header_style="bold",
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    drawn.add_column("system", overflow="fold", vertical=vertical, min_width=10)
    for index in columns:
        # As narrow as its numbers and the words of its title allow, to leave room for names.
        cells = [row.cells[index] for row in rows]
        heading = table.columns[index].title
        texts = [*heading.split(), *map(_plain, cells), *(cell.interval_text for cell in cells)]
        drawn.add_column(heading, justify="right", vertical=vertical, width=max(map(len, texts)))
    for row in rows:
        style = "dim" if row.regime == "quoted" else ""
        drawn.add_row(Text(_label(row), style=style), *(_two_lines(row.cells[index]) for index in columns))
    return drawn


def _two_lines(cell: Cell) -> Text:
    text = Text(_plain(cell), style="bold" if cell.best else "")
    if cell.interval is not None:
        text.append(f"\n{cell.interval_text}", style="not bold dim")
    return text


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
        lines.append(_line([_escape(_label(row)), *map(_markdown_cell, row.cells)]))
    below = [line for remark in _below(table) for line in ("", _escape(remark))]
    return "\n".join([*lines, *below]) + "\n"


def to_csv(table: Table) -> str:
    """Write the table as CSV with plain numbers. Missing values are empty.

    Scores are ×100 with one decimal. After the columns of the table follow the interval and p-value of each score.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    scores = [index for index, column in enumerate(table.columns) if column.is_main]
    keys = [column.key for column in table.columns]
    further = [f"{keys[index]}_{name}" for index in scores for name in ("low", "high", "p")]
    writer.writerow(["system", "regime", f"{table.items}_scored", f"{table.items}_expected", *keys, *further])
    for row in table.rows:
        entry = row.row
        numbers = [_number(column, cell) for column, cell in zip(table.columns, row.cells, strict=True)]
        certainty = [text for index in scores for text in _certainty(row.cells[index])]
        writer.writerow([entry.name, entry.regime, entry.clips_scored, entry.clips_expected, *numbers, *certainty])
    return out.getvalue()


def to_records(table: Table) -> list[dict[str, Any]]:
    """Return the rows in full precision for JSON, scores as fractions."""
    return [
        {
            "system": row.row.name,
            "regime": row.row.regime,
            "source": row.row.source,
            f"{table.items}_scored": row.row.clips_scored,
            f"{table.items}_expected": row.row.clips_expected,
            "values": {column.key: cell.value for column, cell in zip(table.columns, row.cells, strict=True)},
            "intervals": dict(row.row.intervals),
            "differences": dict(row.row.differences),
            "p_values": dict(row.row.p_values),
            "not_scored": dict(row.row.reasons),
            "by_seed": {str(seed): dict(scores) for seed, scores in row.row.by_seed.items()},
        }
        for row in table.rows
    ]


def _label(row: PrintedRow) -> str:
    return " ".join([row.row.name, *(f"({tag})" for tag in row.tags)])


def _plain(cell: Cell) -> str:
    text = cell.text + cell.significance
    return text if cell.note is None else text + str(cell.note).translate(_SUPERSCRIPTS)


def _markdown_cell(cell: Cell) -> str:
    text = f"**{_plain(cell)}**" if cell.best else _plain(cell)
    return f"{text} ({cell.interval_text})" if cell.interval else text


def _number(column: Column, cell: Cell) -> str:
    if cell.value is None:
        return ""
    if column.is_score:
        return cell.text
    return f"{cell.value:.10g}" if isinstance(cell.value, float) else str(cell.value)


def _certainty(cell: Cell) -> tuple[str, str, str]:
    low, high = cell.interval_text.split("–") if cell.interval else ("", "")
    return low, high, "" if cell.p_value is None else f"{cell.p_value:.4g}"


def _below(table: Table) -> list[str]:
    numbered = [
        f"{str(number).translate(_SUPERSCRIPTS)} {text}" for number, text in enumerate(table.footnotes, start=1)
    ]
    return [*numbered, *table.remarks]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(text: str) -> str:
    """Escape Markdown and HTML, and join lines."""
    return re.sub(r"([\\`*_\[\]<>|~])", r"\\\1", " ".join(text.split())).replace("&", "&amp;")

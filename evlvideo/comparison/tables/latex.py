"""Writes a table for a paper, with booktabs."""

from collections.abc import Sequence

from evlvideo.comparison.tables.table import Cell, PrintedRow, Table

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "–": "--", "×": r"$\times$", "†": r"$\dagger$", "‡": r"$\ddagger$", "…": r"\ldots{}",
    '"': r"\textquotedbl{}",
}  # fmt: skip


def to_latex(table: Table, scored_on: str, label: str = "comparison") -> str:
    r"""Write the table as LaTeX for `\input`. Needs the packages booktabs and, for quotes, fontenc.

    Scores, their groups and costs follow one another, so that each part fits a column of text.

    Args:
        table: the table. A rule separates rows of different regimes.
        scored_on: split, references and tokenization, for the caption.
        label: what follows `tab:` in its label.
    """
    caption = (
        f"{escape_latex(table.title)}. {escape_latex(scored_on)} "
        f"Scores are $\\times$100 with 95\\,\\% intervals over {table.items}; the best of each column is bold."
    )
    lines = [
        r"% Needs \usepackage{booktabs} and \usepackage[T1]{fontenc}.",
        r"\begin{table}[t]",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{label}}}",
        *(line for number, part in enumerate(table.parts.items()) for line in _part(table, number, *part)),
        *_notes(table),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Escape text for LaTeX, on one line."""
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))


def _part(table: Table, number: int, title: str, columns: Sequence[int]) -> list[str]:
    """Write one tabular. The first has the regimes."""
    first = number == 0
    numbers = "r" * len(columns)
    return [
        *([] if first else [r"\par\medskip", rf"\textit{{{escape_latex(title)}}}\par\smallskip"]),
        rf"\begin{{tabular}}{{l{'l' if first else ''}{numbers}}}",
        r"\toprule",
        _line(["system", *(["regime"] if first else []), *(_heading(table.columns[index].title) for index in columns)]),
        r"\midrule",
        *_body(table.rows_with(columns), columns, with_regime=first),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _body(rows: Sequence[PrintedRow], columns: Sequence[int], *, with_regime: bool) -> list[str]:
    lines = []
    for number, row in enumerate(rows):
        if number and row.regime != rows[number - 1].regime:
            lines.append(r"\midrule")
        tags = [tag for tag in row.tags if tag != row.regime]
        name = " ".join([row.row.name, *(f"({tag})" for tag in tags)])
        cells = [row.cells[index] for index in columns]
        regime = [row.regime] if with_regime else []
        lines.append(_line([escape_latex(name), *regime, *map(_cell, cells)]))
        if any(cell.interval for cell in cells):
            lines.append(_line(["", *([""] if with_regime else []), *map(_interval, cells)]))
    return lines


def _cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    if cell.best:
        text = rf"\textbf{{{text}}}"
    if cell.note is not None:
        text += rf"\textsuperscript{{{cell.note}}}"
    if cell.significance:
        text += rf"\textsuperscript{{{escape_latex(cell.significance)}}}"
    return text


def _interval(cell: Cell) -> str:
    return rf"{{\scriptsize {escape_latex(cell.interval_text)}}}" if cell.interval else ""


def _heading(title: str) -> str:
    """Stack the words of a title."""
    words = [escape_latex(word) for word in title.split()]
    stacked = r"\\".join(words)
    return stacked if len(words) == 1 else rf"\shortstack[r]{{{stacked}}}"


def _notes(table: Table) -> list[str]:
    notes = [rf"\textsuperscript{{{number}}} {escape_latex(text)}" for number, text in enumerate(table.footnotes, 1)]
    notes += [escape_latex(remark) for remark in table.remarks]
    return [r"\par\medskip\raggedright\footnotesize", "\n\n".join(notes)] if notes else []


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"

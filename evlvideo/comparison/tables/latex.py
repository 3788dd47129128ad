"""A table for a paper, with booktabs."""

from collections.abc import Sequence

from evlvideo.comparison.tables.table import Cell, PrintedRow, Table

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "–": "--", "×": r"$\times$", "†": r"$\dagger$", "‡": r"$\ddagger$", "…": r"\ldots{}",
    '"': r"\textquotedbl{}",
}  # fmt: skip


def to_latex(table: Table, scored_on: str) -> str:
    r"""Write the table for LaTeX, to be read with `\input`; it needs the packages booktabs and, for quotes, fontenc.

    Scores, their groups and costs stand below each other, so that each part fits a column of text.

    Args:
        table: rows; where the regime changes from one to the next, a rule parts them.
        scored_on: split, references and tokenisation, for the caption.
    """
    caption = (
        f"{escape_latex(table.title)}. {escape_latex(scored_on)} "
        "Scores are $\\times$100 with 95\\,\\% intervals over clips; the best of each column is bold."
    )
    lines = [
        r"% Needs \usepackage{booktabs} and \usepackage[T1]{fontenc}.",
        r"\begin{table}[t]",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{caption}}}",
        r"\label{tab:comparison}",
        *(line for place, part in enumerate(table.parts.items()) for line in _part(table, place, *part)),
        *_notes(table),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is, on one line."""
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))


def _part(table: Table, place: int, title: str, places: Sequence[int]) -> list[str]:
    """One tabular; the first has the regimes."""
    first = place == 0
    numbers = "r" * len(places)
    return [
        *([] if first else [r"\par\medskip", rf"\textit{{{escape_latex(title)}}}\par\smallskip"]),
        rf"\begin{{tabular}}{{l{'l' if first else ''}{numbers}}}",
        r"\toprule",
        _line(["system", *(["regime"] if first else []), *(_heading(table.columns[place].title) for place in places)]),
        r"\midrule",
        *_body(table.rows_with(places), places, with_regime=first),
        r"\bottomrule",
        r"\end{tabular}",
    ]


def _body(rows: Sequence[PrintedRow], places: Sequence[int], *, with_regime: bool) -> list[str]:
    lines = []
    for number, row in enumerate(rows):
        if number and row.regime != rows[number - 1].regime:
            lines.append(r"\midrule")
        tags = [tag for tag in row.tags if tag != row.regime]
        name = " ".join([row.row.name, *(f"({tag})" for tag in tags)])
        cells = [row.cells[place] for place in places]
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
    """A title over as many lines as it has words, as wide as its longest."""
    words = [escape_latex(word) for word in title.split()]
    stacked = r"\\".join(words)
    return stacked if len(words) == 1 else rf"\shortstack[r]{{{stacked}}}"


def _notes(table: Table) -> list[str]:
    notes = [rf"\textsuperscript{{{number}}} {escape_latex(text)}" for number, text in enumerate(table.footnotes, 1)]
    notes += [escape_latex(remark) for remark in table.remarks]
    return [r"\par\medskip\raggedright\footnotesize", "\n\n".join(notes)] if notes else []


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"

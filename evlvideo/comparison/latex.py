"""A table for a paper, with booktabs."""

from collections.abc import Sequence

from evlvideo.comparison.table import Cell, Row, Table

_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "–": "--", "×": r"$\times$", "†": r"$\dagger$", "‡": r"$\ddagger$", "…": r"\ldots{}",
    '"': r"\textquotedbl{}",
}  # fmt: skip


def to_latex(table: Table, scored_on: str) -> str:
    r"""Write the table for LaTeX, to be read with `\input`; it needs the packages booktabs and, for quotes, fontenc.

    Args:
        table: rows; where the regime changes from one to the next, a rule parts them.
        scored_on: split, references and tokenisation, for the caption.
    """
    numbers = "".join("r" for _ in table.columns)
    caption = (
        f"{escape_latex(table.title)}. {escape_latex(scored_on)} "
        "Scores are $\\times$100 with 95\\,\\% intervals over clips; the best of each column is bold."
    )
    lines = [
        r"% Needs \usepackage{booktabs} and \usepackage[T1]{fontenc}.",
        r"\begin{table}[t]",
        r"\centering\small",
        rf"\caption{{{caption}}}",
        r"\label{tab:comparison}",
        rf"\begin{{tabular}}{{ll{numbers}}}",
        r"\toprule",
        _line(["system", "regime", *(_title(column.title, column.group) for column in table.columns)]),
        r"\midrule",
        *_body(table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *_notes(table),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape_latex(text: str) -> str:
    """Text that LaTeX prints as it is, on one line."""
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))


def _body(rows: Sequence[Row]) -> list[str]:
    lines = []
    for place, row in enumerate(rows):
        if place and row.regime != rows[place - 1].regime:
            lines.append(r"\midrule")
        tags = [tag for tag in row.tags if tag != row.regime]
        name = " ".join([row.entry.name, *(f"({tag})" for tag in tags)])
        lines.append(_line([escape_latex(name), row.regime, *map(_cell, row.cells)]))
    return lines


def _cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    if cell.best:
        text = rf"\textbf{{{text}}}"
    if cell.note is not None:
        text += rf"\textsuperscript{{{cell.note}}}"
    if cell.significance:
        text += rf"\textsuperscript{{{escape_latex(cell.significance)}}}"
    if cell.interval is not None:
        text += rf" {{\scriptsize {escape_latex(cell.interval_text)}}}"
    return text


def _title(title: str, group: str) -> str:
    return escape_latex(f"{group}: {title}" if group else title)


def _notes(table: Table) -> list[str]:
    notes = [rf"\textsuperscript{{{number}}} {escape_latex(text)}" for number, text in enumerate(table.footnotes, 1)]
    notes += [escape_latex(remark) for remark in table.remarks]
    return [r"\par\medskip\raggedright\footnotesize", "\n\n".join(notes)] if notes else []


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from evlvideo.comparison.rows.row import SCORES, Row
from evlvideo.comparison.tables.latex import escape_latex, to_latex
from evlvideo.comparison.tables.table import COSTS, EVIDENCE, OVER_SEEDS, Table, build_table

HOSTILE = r"a_b & 50% #1 $x$ {y} ~z^ \input{/etc/passwd} <b>|'\"" + "\nnext"


def table(name: str = "mine") -> Table:
    return build_table(
        "MSR-VTT, test split",
        [
            Row("paper's", "quoted", {"cider": 0.9}, source="a paper & its poster"),
            Row(name, "trained", {"cider": 0.5, "trained_parameters": 1234567}, {"meteor": "no Java runtime."}),
            Row(
                "best",
                "scored",
                {"cider": 0.6},
                clips_scored=6,
                clips_expected=6,
                intervals={"cider": (0.55, 0.651)},
                p_values={"cider": 0.003},
            ),
        ],
        ["50 % of all, † p < 0.05."],
    )


def test_rows_have_regime_interval_significance_and_the_best_bold() -> None:
    text = to_latex(table(), "Scored on msrvtt:test.")
    assert r"best & scored & \textbf{60.0}\textsuperscript{$\ddagger$} & --" in text
    assert r" &  & {\scriptsize 55.0--65.1} & " in text
    assert r"paper's & quoted & 90.0 & --" in text
    assert r"\textsuperscript{1} METEOR: no Java runtime." in text
    assert r"\caption{MSR-VTT, test split. Scored on msrvtt:test." in text
    assert r"50 \% of all, $\dagger$ p \textless{} 0.05." in text


def test_rules_are_booktabs_and_part_the_regimes() -> None:
    lines = to_latex(table(), "").splitlines()
    scores = lines[: lines.index(r"\bottomrule") + 1]
    assert [line for line in scores if "rule" in line] == [
        r"\toprule", r"\midrule", r"\midrule", r"\midrule", r"\bottomrule",
    ]  # fmt: skip


def test_costs_stand_below_with_the_rows_that_have_some() -> None:
    _, costs = to_latex(table(), "").split(r"\textit{Costs}")
    assert r"system & \shortstack[r]{trained\\parameters} \\" in costs
    assert r"mine & 1,234,567 \\" in costs
    assert "best" not in costs.partition(r"\bottomrule")[0]


def test_every_line_has_as_many_cells_as_there_are_columns() -> None:
    text = to_latex(table(HOSTILE), "")
    parts = re.findall(r"(?s)\\begin\{tabular\}\{(\w+)\}(.*?)\\end\{tabular\}", text)
    assert [columns for columns, _ in parts] == ["llrrrr", "lr"]
    for columns, body in parts:
        lines = [line for line in body.splitlines() if line.endswith(r" \\")]
        assert {len(re.split(r"(?<!\\)&", line)) for line in lines} == {len(columns)}


def test_names_are_printed_and_not_run() -> None:
    escaped = escape_latex(HOSTILE)
    assert r"a\_b \& 50\% \#1 \$x\$ \{y\} \textasciitilde{}z\textasciicircum{} \textbackslash{}input\{" in escaped
    assert "\n" not in escaped
    assert not re.search(r"(?<!\\)[&%#$_]", escaped.replace("{}", ""))


def whole_table() -> Table:
    """All columns that there are."""
    keys = (*SCORES, *OVER_SEEDS, *(f"cider_{kind}" for kind in EVIDENCE))
    values = dict.fromkeys(keys, 1.234) | dict.fromkeys(COSTS, 123_456_789)
    intervals = dict.fromkeys(SCORES, (1.0, 1.5))
    p_values = dict.fromkeys(SCORES, 0.001)
    rows = [Row(f"merged_positions-{place}", "trained", values, {}, 6, 6) for place in range(2)]
    return build_table("Mini", [replace(row, intervals=intervals, p_values=p_values) for row in rows])


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.parametrize("made", [table(HOSTILE), whole_table()], ids=["hostile", "whole"])
def test_latex_takes_it_on_one_page_s_width(tmp_path: Path, made: Table) -> None:
    (tmp_path / "table.tex").write_text(to_latex(made, "Scored on 5 % of it."))
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs}\usepackage[T1]{fontenc}\begin{document}\input{table}\end{document}"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True
    )
    said = done.stdout.decode("utf-8", "replace")
    assert done.returncode == 0, said
    assert made.title != "Mini" or "Overfull" not in said, said

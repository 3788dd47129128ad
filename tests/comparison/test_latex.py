import re
import shutil
import subprocess
from pathlib import Path

import pytest

from evlvideo.comparison.latex import escape_latex, to_latex
from evlvideo.comparison.table import Entry, Table, build_table

HOSTILE = r"a_b & 50% #1 $x$ {y} ~z^ \input{/etc/passwd} <b>|'\"" + "\nnext"


def table(name: str = "mine") -> Table:
    return build_table(
        "MSR-VTT, test split",
        [
            Entry("paper's", "quoted", {"cider": 0.9}, source="a paper & its poster"),
            Entry(name, "trained", {"cider": 0.5, "trained_parameters": 1234567}, {"meteor": "no Java runtime."}),
            Entry(
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
    assert r"best & scored & \textbf{60.0}\textsuperscript{$\ddagger$} {\scriptsize 55.0--65.1} & --" in text
    assert r"paper's & quoted & 90.0 & --" in text
    assert r"\textsuperscript{1} METEOR: no Java runtime." in text
    assert r"\caption{MSR-VTT, test split. Scored on msrvtt:test." in text
    assert r"50 \% of all, $\dagger$ p \textless{} 0.05." in text


def test_rules_are_booktabs_and_part_the_regimes() -> None:
    lines = to_latex(table(), "").splitlines()
    assert [line for line in lines if "rule" in line] == [
        r"\toprule", r"\midrule", r"\midrule", r"\midrule", r"\bottomrule",
    ]  # fmt: skip


def test_every_line_has_as_many_cells_as_there_are_columns() -> None:
    text = to_latex(table(HOSTILE), "")
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)
    assert columns is not None
    lines = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(lines) == 4
    for line in lines:
        assert len(re.split(r"(?<!\\)&", line)) == len(columns[1])


def test_names_are_printed_and_not_run() -> None:
    escaped = escape_latex(HOSTILE)
    assert r"a\_b \& 50\% \#1 \$x\$ \{y\} \textasciitilde{}z\textasciicircum{} \textbackslash{}input\{" in escaped
    assert "\n" not in escaped
    assert not re.search(r"(?<!\\)[&%#$_]", escaped.replace("{}", ""))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_takes_it(tmp_path: Path) -> None:
    (tmp_path / "table.tex").write_text(to_latex(table(HOSTILE), "Scored on 5 % of it."))
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs}\usepackage[T1]{fontenc}\begin{document}\input{table}\end{document}"
    )
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout.decode("utf-8", "replace")

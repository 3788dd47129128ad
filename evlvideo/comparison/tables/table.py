"""Lays out the table of a comparison: columns, cells, best values, footnotes."""

from collections.abc import Sequence
from dataclasses import dataclass

from evlvideo.comparison.rows.row import SCORES, Interval, Regime, Row, spread_key, subset_key
from evlvideo.metrics.names import TITLES, format_score

COSTS = {
    "trained_parameters": "trained parameters",
    "training_multiply_adds": "MACs, training",
    "captioning_multiply_adds": "MACs, captioning",
    "answering_multiply_adds": "MACs, answering",
    "training_seconds": "training seconds",
    "clips_per_second": "clips a second",
}
"""Costs of a system. A column appears if a row has a number or a reason for it. MACs are multiply-adds per clip."""
SPREAD = {"sd": "SD", "lowest": "lowest", "highest": "highest"}
"""Spread of a score over seeds, for rows that are means of several."""
OVER_SEEDS = {spread_key("cider", name): title for name, title in SPREAD.items()}
"""Column keys of the spread of CIDEr."""
EVIDENCE = ("one_frame", "several_frames", "frame_order")
"""What is needed to tell the captions of a clip, from least to most."""
_BY_EVIDENCE = "CIDEr by evidence"
MARKS = {0.01: "‡", 0.05: "†"}
"""Significance level → its mark, the strictest first."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers."""

    key: str
    title: str
    is_score: bool
    """Scores are fractions printed ×100. Other columns are counts."""
    group: str = ""
    """A heading above several columns."""
    ranked: bool = True
    """Whether the highest score is the best."""

    @property
    def is_main(self) -> bool:
        """Whether it is one of the scores that the table is about, with an interval and a test."""
        return self.is_score and not self.group


@dataclass(frozen=True, slots=True)
class Cell:
    """A number as printed."""

    value: float | None
    text: str
    best: bool = False
    note: int | None = None
    """Number of the footnote that says why the value is missing, counted from 1."""
    interval: Interval | None = None
    """95 % interval over clips, in the unit of the value. `None` if unknown."""
    p_value: float | None = None
    """Of the difference from the chosen row. `None` if not tested."""
    significance: str = ""
    """One of :data:`MARKS`, or empty."""

    @property
    def says_something(self) -> bool:
        """Whether there is a value, or a reason for its absence."""
        return self.value is not None or self.note is not None

    @property
    def interval_text(self) -> str:
        """The interval of a score ×100, such as `48.1–52.3`. Empty if there is none."""
        return "–".join(map(format_score, self.interval)) if self.interval else ""


@dataclass(frozen=True, slots=True)
class PrintedRow:
    """A row as laid out."""

    row: Row
    tags: tuple[str, ...]
    """Labels shown beside the name."""
    cells: tuple[Cell, ...]
    """One for each column of the table."""

    @property
    def regime(self) -> Regime:
        """Origin of the row."""
        return self.row.regime


@dataclass(frozen=True, slots=True)
class Table:
    """The whole table, its rows in the given order."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[PrintedRow, ...]
    footnotes: tuple[str, ...]
    """Numbered from 1. Cells refer to them."""
    remarks: tuple[str, ...]
    """Sentences about the whole table."""
    items: str = "clips"
    """What was scored: `clips` or `questions`."""

    @property
    def parts(self) -> dict[str, list[int]]:
        """Split the columns into parts that fit a page: title → indices of scores, groups, costs."""
        parts: dict[str, list[int]] = {self.title: []}
        for index, column in enumerate(self.columns):
            title = self.title if column.is_main else column.group or "Costs"
            parts.setdefault(title, []).append(index)
        return parts

    def rows_with(self, columns: Sequence[int]) -> Sequence["PrintedRow"]:
        """Select the rows with a value, or a reason for its absence, in one of the columns. Defaults to all rows."""
        return [row for row in self.rows if any(row.cells[column].says_something for column in columns)] or self.rows


def build_table(title: str, rows: Sequence[Row], remarks: Sequence[str] = ()) -> Table:
    """Lay rows of captions out as a table; see :func:`lay_out`."""
    columns = _columns(rows)
    return lay_out(title, columns, rows, [*_own_remarks(columns), *row_remarks(rows), *remarks])


def lay_out(
    title: str, columns: Sequence[Column], rows: Sequence[Row], remarks: Sequence[str], items: str = "clips"
) -> Table:
    """Lay rows out as a table.

    Marks the best value of each score column among comparable rows, which excludes quoted, partial and human ones.
    Values that print alike are marked alike.
    """
    best = {column.key: _best(column, rows) for column in columns}
    mixed = len({row.regime for row in rows}) > 1
    footnotes: list[str] = []
    printed = []
    for row in rows:
        cells = tuple(_cell(column, row, best[column.key], footnotes) for column in columns)
        printed.append(PrintedRow(row, _tags(row, mixed, items), cells))
    return Table(title, tuple(columns), tuple(printed), tuple(footnotes), tuple(remarks), items)


def mark_of(p_value: float | None) -> str:
    """Return the mark of the strictest level above a p-value. Empty if there is none."""
    return next((mark for level, mark in MARKS.items() if p_value is not None and p_value < level), "")


def _columns(rows: Sequence[Row]) -> tuple[Column, ...]:
    present = {key for row in rows for key in row.values}
    subsets = present - {*SCORES, *COSTS, *OVER_SEEDS}
    ordered = [subset_key(name) for name in EVIDENCE if subset_key(name) in subsets]
    ordered += sorted(subsets - set(ordered))
    known = {key for row in rows for key in COSTS if row.values.get(key) is not None or key in row.reasons}
    return (
        *(Column(key, TITLES[key], is_score=True) for key in SCORES),
        *(
            Column(key, title, is_score=True, group="CIDEr over seeds", ranked=key != "cider_sd")
            for key, title in OVER_SEEDS.items()
            if key in present
        ),
        *(
            Column(key, key.removeprefix("cider_").replace("_", " "), is_score=True, group=_group(key))
            for key in ordered
        ),
        *(Column(key, title, is_score=False) for key, title in COSTS.items() if key in known),
    )


def _group(key: str) -> str:
    return _BY_EVIDENCE if key in map(subset_key, EVIDENCE) else "CIDEr by domain"


def _best(column: Column, rows: Sequence[Row]) -> str | None:
    if not (column.is_score and column.ranked):
        return None
    values = [value for row in rows if row.comparable and (value := row.values.get(column.key)) is not None]
    return _format(column, max(values)) if len(values) > 1 else None


def _cell(column: Column, row: Row, best: str | None, footnotes: list[str]) -> Cell:
    value = row.values.get(column.key)
    if value is not None:
        text = _format(column, value)
        p_value = row.p_values.get(column.key)
        return Cell(
            value,
            text,
            best=row.comparable and text == best,
            interval=row.intervals.get(column.key),
            p_value=p_value,
            significance=mark_of(p_value),
        )
    reason = row.reasons.get(column.key)
    if reason is None:
        return Cell(None, "–")
    # Columns of one kind share a footnote.
    title = TITLES["cider"] if column.key.startswith("cider") else column.title
    title = COSTS[column.key].partition(",")[0] if column.key in COSTS else title
    footnote = reason if reason.startswith(title) else f"{title}: {reason}"
    if footnote not in footnotes:
        footnotes.append(footnote)
    return Cell(None, "–", note=footnotes.index(footnote) + 1)


def _format(column: Column, value: float) -> str:
    if column.is_score:
        return format_score(value)
    if "multiply_adds" in column.key:
        return short_number(value)
    return f"{value:.3g}" if 0 < value < 10 else f"{value:,.0f}"


def short_number(value: float) -> str:
    """Format a large number with three digits and its unit, such as `2.54 T`."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            digits = 2 if value < 10 * size else 1 if value < 100 * size else 0
            return f"{value / size:.{digits}f} {unit}"
    return f"{value:,.0f}"


def _tags(row: Row, mixed: bool, items: str) -> tuple[str, ...]:
    """Label a row with its regime, unless all rows are trained, and with what sets it apart."""
    tags: list[str] = [row.regime] if mixed or row.regime != "trained" else []
    if row.by_seed:
        tags.append(f"{len(row.by_seed)} seeds")
    if row.is_human:
        tags.append("other references")
    if row.partial:
        tags.append(f"{row.clips_scored:,} of {row.clips_expected:,} {items}")
    return tuple(tags)


def _own_remarks(columns: Sequence[Column]) -> list[str]:
    remarks = []
    if any(column.group == _BY_EVIDENCE for column in columns):
        remarks.append(
            "One frame, several frames, frame order: CIDEr over the clips whose captions can be told from one frame, "
            "only from several, or only from their order."
        )
    if any(column.key == "clips_per_second" for column in columns):
        remarks.append(
            "Clips a second are measured over the captioning of a whole evaluation, including the reading of videos or "
            "stored features, on the machine that it ran on."
        )
    return remarks


def row_remarks(rows: Sequence[Row], texts: str = "captions", items: str = "clips") -> list[str]:
    """Say what sets rows apart from those of runs.

    Args:
        rows: the rows.
        texts: what was scored of a system.
        items: what it was scored on.
    """
    remarks = []
    if any(row.regime == "scored" for row in rows):
        remarks.append(
            f"Scored rows are {texts} of other systems, scored here like the other rows; their training and decoding "
            "may differ."
        )
    sources = dict.fromkeys(row.source for row in rows if row.regime == "quoted")
    remarks += [
        f"Quoted rows were not measured here: other models, data and budgets. Source: {source}." for source in sources
    ]
    if any(row.partial for row in rows):
        remarks.append(f"Rows scored on only a part of the {items} are ignored when the best value is marked.")
    return remarks

"""The table of a comparison, before it is drawn anywhere: rows, columns, the best values, the notes."""

from collections.abc import Sequence
from dataclasses import dataclass

from evlvideo.comparison.rows.row import SCORES, Interval, Regime, Row, subset_key
from evlvideo.metrics.names import TITLES, format_score

COSTS = {
    "trained_parameters": "trained parameters",
    "training_multiply_adds": "MACs, training",
    "captioning_multiply_adds": "MACs, captioning",
    "training_seconds": "training seconds",
    "clips_per_second": "clips a second",
}
"""What a system costs; a column is there where a row has a number or a reason for it. MACs are multiply-adds a clip."""
OVER_SEEDS = {"cider_sd": "SD", "cider_lowest": "lowest", "cider_highest": "highest"}
"""What seeds make of CIDEr, where a row is the mean of several."""
EVIDENCE = ("one_frame", "several_frames", "frame_order")
"""What it takes to tell a clip's captions, from least to most."""
MARKS = {0.01: "‡", 0.05: "†"}
"""Level of significance → its mark, the strictest first."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers."""

    key: str
    title: str
    is_score: bool
    """Scores are fractions printed ×100; other columns are counts."""
    group: str = ""
    """A heading above several columns."""
    ranked: bool = True
    """Whether the highest score is the best."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A number as it is shown."""

    value: float | None
    text: str
    best: bool = False
    note: int | None = None
    """Number of the footnote that says why there is no value, counted from 1."""
    interval: Interval | None = None
    """95 % interval over clips, in the unit of the value; `None` where it is not known."""
    p_value: float | None = None
    """Of the difference from the chosen row; `None` where there is none."""
    significance: str = ""
    """One of :data:`MARKS`, or empty."""

    @property
    def says_something(self) -> bool:
        """Whether there is a value, or a reason for none."""
        return self.value is not None or self.note is not None

    @property
    def interval_text(self) -> str:
        """The interval of a score ×100, such as `48.1–52.3`; empty where there is none."""
        return "–".join(map(format_score, self.interval)) if self.interval else ""


@dataclass(frozen=True, slots=True)
class PrintedRow:
    """One system's line."""

    row: Row
    tags: tuple[str, ...]
    """What sets the row apart from the others, shown beside its name."""
    cells: tuple[Cell, ...]
    """One for each column of the table."""

    @property
    def regime(self) -> Regime:
        """How the row came about."""
        return self.row.regime


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in the order given."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[PrintedRow, ...]
    footnotes: tuple[str, ...]
    """Numbered from 1; cells point to them."""
    remarks: tuple[str, ...]
    """Sentences about the whole table."""

    @property
    def parts(self) -> dict[str, list[int]]:
        """Places of columns in parts that fit a page, by title: scores under the table's own, groups, costs."""
        parts: dict[str, list[int]] = {self.title: []}
        for place, column in enumerate(self.columns):
            title = self.title if column.key in SCORES else column.group or "Costs"
            parts.setdefault(title, []).append(place)
        return parts

    def rows_with(self, places: Sequence[int]) -> Sequence["PrintedRow"]:
        """Rows that have a value, or a reason for none, in one of the columns; all rows where that is none."""
        return [row for row in self.rows if any(row.cells[place].says_something for place in places)] or self.rows


def build_table(title: str, entries: Sequence[Row], remarks: Sequence[str] = ()) -> Table:
    """Lay entries out as a table.

    The best value of a score column is marked among the rows that can be compared: not those that only quote, and not
    those scored on a part of the split or against other references. Values that print alike are marked alike.
    """
    columns = _columns(entries)
    best = {column.key: _best(column, entries) for column in columns}
    mixed = len({entry.regime for entry in entries}) > 1
    footnotes: list[str] = []
    rows = []
    for entry in entries:
        cells = tuple(_cell(column, entry, best[column.key], footnotes) for column in columns)
        rows.append(PrintedRow(entry, _tags(entry, mixed), cells))
    return Table(title, columns, tuple(rows), tuple(footnotes), (*_own_remarks(columns, entries), *remarks))


def mark_of(p_value: float | None) -> str:
    """The mark of the strictest level that a p-value is under; empty where there is none."""
    return next((mark for level, mark in MARKS.items() if p_value is not None and p_value < level), "")


def _columns(entries: Sequence[Row]) -> tuple[Column, ...]:
    present = {key for entry in entries for key in entry.values}
    subsets = present - {*SCORES, *COSTS, *OVER_SEEDS}
    ordered = [subset_key(name) for name in EVIDENCE if subset_key(name) in subsets]
    ordered += sorted(subsets - set(ordered))
    known = {key for entry in entries for key in COSTS if entry.values.get(key) is not None or key in entry.reasons}
    return (
        *(Column(key, TITLES[key], is_score=True) for key in SCORES),
        *(
            Column(key, title, is_score=True, group="CIDEr over seeds", ranked=key != "cider_sd")
            for key, title in OVER_SEEDS.items()
            if key in present
        ),
        *(
            Column(key, key.removeprefix("cider_").replace("_", " "), is_score=True, group="CIDEr by evidence")
            for key in ordered
        ),
        *(Column(key, title, is_score=False) for key, title in COSTS.items() if key in known),
    )


def _best(column: Column, entries: Sequence[Row]) -> str | None:
    if not (column.is_score and column.ranked):
        return None
    values = [value for entry in entries if entry.comparable and (value := entry.values.get(column.key)) is not None]
    return _format(column, max(values)) if len(values) > 1 else None


def _cell(column: Column, entry: Row, best: str | None, footnotes: list[str]) -> Cell:
    value = entry.values.get(column.key)
    if value is not None:
        text = _format(column, value)
        p_value = entry.p_values.get(column.key)
        return Cell(
            value,
            text,
            best=entry.comparable and text == best,
            interval=entry.intervals.get(column.key),
            p_value=p_value,
            significance=mark_of(p_value),
        )
    reason = entry.reasons.get(column.key)
    if reason is None:
        return Cell(None, "–")
    # Columns of one kind share their reasons.
    title = TITLES.get(column.key) or COSTS.get(column.key, TITLES["cider"]).partition(",")[0]
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
    """A large number with three digits and its unit, such as `2.54 T`."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
        if value >= size:
            digits = 2 if value < 10 * size else 1 if value < 100 * size else 0
            return f"{value / size:.{digits}f} {unit}"
    return f"{value:,.0f}"


def _tags(entry: Row, mixed: bool) -> tuple[str, ...]:
    """The regime, where it does not go without saying, and what else sets a row apart."""
    tags: list[str] = [entry.regime] if mixed or entry.regime != "trained" else []
    if entry.by_seed:
        tags.append(f"{len(entry.by_seed)} seeds")
    if entry.is_human:
        tags.append("other references")
    if entry.partial:
        tags.append(f"{entry.clips_scored:,} of {entry.clips_expected:,} clips")
    return tuple(tags)


def _own_remarks(columns: Sequence[Column], entries: Sequence[Row]) -> list[str]:
    remarks = []
    if any(column.group for column in columns):
        remarks.append(
            "One frame, several frames, frame order: CIDEr over the clips whose captions can be told from one frame, "
            "only from several, only from their order."
        )
    if any(column.key == "clips_per_second" for column in columns):
        remarks.append(
            "Clips a second are measured over a whole evaluation's captioning, with what it reads of each clip, videos "
            "or stored features, on the machine that it ran on."
        )
    if any(entry.regime == "scored" for entry in entries):
        remarks.append(
            "Scored rows are captions of other systems, scored here as the other rows are; how those were trained and "
            "decoded is their own."
        )
    sources = dict.fromkeys(entry.source for entry in entries if entry.regime == "quoted")
    remarks += [
        f"Quoted rows were not measured here: other models, data and budgets. Source: {source}." for source in sources
    ]
    if any(entry.partial for entry in entries):
        remarks.append("Rows scored on a part of the clips are not counted when the best value is marked.")
    return remarks

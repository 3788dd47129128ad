"""The table of a comparison, before it is drawn anywhere: rows, columns, the best values, the notes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from evlvideo.comparison.runs import EvaluatedRun
from evlvideo.evaluation.score import TITLES, format_score

Regime = Literal["trained", "quoted"]

SCORES = ("cider", "bleu_4", "meteor", "rouge_l")
"""Metrics in the order of EVLGen's poster."""
COSTS = {"trained_parameters": "trained parameters", "training_seconds": "training seconds"}
EVIDENCE = ("one_frame", "several_frames", "frame_order")
"""What it takes to tell a clip's captions, from least to most."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one system."""

    name: str
    regime: Regime
    values: Mapping[str, float | None]
    """Value by column key: scores as fractions (CIDEr 0.74 is printed 74.0), parameters, seconds."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why a column has no value."""
    clips_scored: int | None = None
    clips_expected: int | None = None
    source: str | None = None
    """Where a quoted row is from."""

    @property
    def partial(self) -> bool:
        """Whether fewer clips were scored than the split has."""
        return None not in (self.clips_scored, self.clips_expected) and self.clips_scored != self.clips_expected


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers."""

    key: str
    title: str
    is_score: bool
    """Scores are fractions printed ×100; other columns are counts."""
    group: str = ""
    """A heading above several columns."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A number as it is shown."""

    value: float | None
    text: str
    best: bool = False
    note: int | None = None
    """Number of the footnote that says why there is no value, counted from 1."""


@dataclass(frozen=True, slots=True)
class Row:
    """One system's line."""

    entry: Entry
    tags: tuple[str, ...]
    """What sets the row apart from the others, shown beside its name."""
    cells: tuple[Cell, ...]
    """One for each column of the table."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in the order given."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]
    """Numbered from 1; cells point to them."""
    remarks: tuple[str, ...]
    """Sentences about the whole table."""


def run_entry(run: EvaluatedRun) -> Entry:
    """Take the columns of the table from a run that was trained and scored here."""
    result = run.result
    values: dict[str, float | None] = {key: result.scores.get(key) for key in SCORES}
    values |= {"trained_parameters": run.trained_parameters, "training_seconds": run.training_seconds}
    values |= {_subset_key(name): scores.get("cider") for name, scores in (result.evidence_scores or {}).items()}
    skipped = dict(result.skipped)
    if "cider" in skipped:
        skipped |= {_subset_key(name): skipped["cider"] for name in result.evidence_scores or {}}
    return Entry(
        name=run.name,
        regime="trained",
        values=values,
        reasons=skipped,
        clips_scored=result.clips_scored,
        clips_expected=result.clips_expected,
    )


def build_table(title: str, entries: Sequence[Entry], remarks: Sequence[str] = ()) -> Table:
    """Lay entries out as a table.

    The best value of a score column is marked among the rows that can be compared: not those that only quote, and not
    those scored on a part of the split. Values that print alike are marked alike.
    """
    columns = _columns(entries)
    best = {column.key: _best(column, entries) for column in columns}
    footnotes: list[str] = []
    rows = []
    for entry in entries:
        cells = tuple(_cell(column, entry, best[column.key], footnotes) for column in columns)
        rows.append(Row(entry, _tags(entry), cells))
    return Table(title, columns, tuple(rows), tuple(footnotes), (*_own_remarks(columns, entries), *remarks))


def _subset_key(subset: str) -> str:
    return f"cider_{subset}"


def _columns(entries: Sequence[Entry]) -> tuple[Column, ...]:
    present = {key for entry in entries for key in entry.values}
    subsets = present - {*SCORES, *COSTS}
    ordered = [_subset_key(name) for name in EVIDENCE if _subset_key(name) in subsets]
    ordered += sorted(subsets - set(ordered))
    return (
        *(Column(key, TITLES[key], is_score=True) for key in SCORES),
        *(
            Column(key, key.removeprefix("cider_").replace("_", " "), is_score=True, group="CIDEr by evidence")
            for key in ordered
        ),
        *(Column(key, title, is_score=False) for key, title in COSTS.items()),
    )


def _best(column: Column, entries: Sequence[Entry]) -> str | None:
    if not column.is_score:
        return None
    values = [
        value
        for entry in entries
        if entry.regime != "quoted" and not entry.partial and (value := entry.values.get(column.key)) is not None
    ]
    return _format(column, max(values)) if len(values) > 1 else None


def _cell(column: Column, entry: Entry, best: str | None, footnotes: list[str]) -> Cell:
    value = entry.values.get(column.key)
    if value is not None:
        text = _format(column, value)
        comparable = entry.regime != "quoted" and not entry.partial
        return Cell(value, text, best=comparable and text == best)
    reason = entry.reasons.get(column.key)
    if reason is None:
        return Cell(None, "–")
    title = TITLES.get(column.key, TITLES["cider"])
    footnote = reason if reason.startswith(title) else f"{title}: {reason}"
    if footnote not in footnotes:
        footnotes.append(footnote)
    return Cell(None, "–", note=footnotes.index(footnote) + 1)


def _format(column: Column, value: float) -> str:
    return format_score(value) if column.is_score else f"{value:,.0f}"


def _tags(entry: Entry) -> tuple[str, ...]:
    tags = ["quoted"] if entry.regime == "quoted" else []
    if entry.partial:
        tags.append(f"{entry.clips_scored:,} of {entry.clips_expected:,} clips")
    return tuple(tags)


def _own_remarks(columns: Sequence[Column], entries: Sequence[Entry]) -> list[str]:
    remarks = []
    if any(column.group for column in columns):
        remarks.append(
            "One frame, several frames, frame order: CIDEr over the clips whose captions can be told from one frame, "
            "only from several, only from their order."
        )
    sources = dict.fromkeys(entry.source for entry in entries if entry.regime == "quoted")
    remarks += [
        f"Quoted rows were not measured here: other models, data and budgets. Source: {source}." for source in sources
    ]
    if any(entry.partial for entry in entries):
        remarks.append("Rows scored on a part of the clips are not counted when the best value is marked.")
    return remarks

"""A row of the table, whatever it came from: a system, the means of several seeds, published numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import Literal, TypeAlias

from evlvideo.comparison.rows.seeds import S, SeedGroup
from evlvideo.comparison.rows.system import System

Regime = Literal["trained", "scored", "quoted"]
"""Origin of a row: a run trained and scored here, captions of another system scored here on the same clips, or numbers
that others published."""

SCORES = ("cider", "bleu_4", "meteor", "rouge_l")
"""Metrics in the order of EVLGen's poster."""
Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Row:
    """The numbers of one row."""

    name: str
    regime: Regime
    values: Mapping[str, float | None]
    """Value by column key: scores as fractions (CIDEr 0.74 is printed 74.0), parameters, seconds."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why a column has no value."""
    clips_scored: int | None = None
    """Clips, or questions in a table of answers."""
    clips_expected: int | None = None
    source: str | None = None
    """The publication of a quoted row, or the file of a scored one."""
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    """95 % interval over clips by column key, in the unit of the value."""
    p_values: Mapping[str, float] = field(default_factory=dict)
    """By column key: probability of so large a difference from the chosen row if no row differed."""
    differences: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    """By column key: the value minus the chosen row's, and the lower and upper bound of its 95 % interval."""
    is_human: bool = False
    """Whether it is the human row. It has one reference fewer than the others and is never the best."""

    by_seed: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """Scores of each seed by column key, if the values are means over seeds."""

    @property
    def comparable(self) -> bool:
        """Whether its scores rank with others: measured here, on all clips, against the same references."""
        return self.regime != "quoted" and not self.partial and not self.is_human

    @property
    def partial(self) -> bool:
        """Whether not all clips of the split were scored."""
        return None not in (self.clips_scored, self.clips_expected) and self.clips_scored != self.clips_expected


def system_row(system: System) -> Row:
    """Make the row of a system that was scored here, trained here or not."""
    result = system.result
    values: dict[str, float | None] = {key: result.scores.get(key) for key in SCORES}
    values |= {subset_key(name): scores.get("cider") for name, scores in (result.evidence_scores or {}).items()}
    if system.regime == "trained":
        values |= {"trained_parameters": system.trained_parameters, "training_seconds": system.training_seconds}
    values["clips_per_second"] = result.clips_per_second
    skipped = dict(result.skipped)
    if "cider" in skipped:
        skipped |= {subset_key(name): skipped["cider"] for name in result.evidence_scores or {}}
    return Row(
        name=system.name,
        regime=system.regime,
        values=values,
        reasons=skipped,
        clips_scored=result.clips_scored,
        clips_expected=result.clips_expected,
        source=system.source,
        is_human=system.is_human,
    )


def group_row(group: SeedGroup[System]) -> Row:
    """Make the row of one system, or of the means over seeds with the spread of their CIDEr."""
    return row_of_seeds(group, system_row, SCORES, spread_of="cider")


def row_of_seeds(group: SeedGroup[S], row_of: Callable[[S], Row], scores: Sequence[str], *, spread_of: str) -> Row:
    """Make the row of one system, or of the means over seeds.

    Args:
        group: the systems.
        row_of: makes the row of one.
        scores: column keys of which each seed's value is kept.
        spread_of: column key of the score whose spread is added, by :func:`spread_key`.
    """
    rows = [row_of(system) for system in group.systems]
    if len(rows) == 1:
        return replace(rows[0], name=group.name)
    means = {key: _mean([row.values.get(key) for row in rows]) for key in rows[0].values}
    found = [value for row in rows if (value := row.values.get(spread_of)) is not None]
    if means.get(spread_of) is not None:
        spread = {"sd": stdev(found), "lowest": min(found), "highest": max(found)}
        means |= {spread_key(spread_of, name): value for name, value in spread.items()}
    by_seed = {
        seed: {key: value for key in scores if (value := row.values.get(key)) is not None}
        for seed, row in zip(group.seeds, rows, strict=True)
    }
    reasons = {key: reason for row in rows for key, reason in row.reasons.items()}
    # Intervals of one seed are none of the mean.
    return replace(rows[0], name=group.name, values=means, reasons=reasons, by_seed=by_seed, intervals={})


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean if every seed has a value. A value that all share is kept as it is."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return known[0] if len(set(known)) == 1 else fmean(known)


def subset_key(subset: str) -> str:
    """Return the column key of the CIDEr on a subset."""
    return f"cider_{subset}"


def spread_key(score: str, name: str) -> str:
    """Return the column key of a score's spread over seeds: its `sd`, `lowest` or `highest`."""
    return f"{score}_{name}"

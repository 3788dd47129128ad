"""A row of the table, whatever it came from: a system, the means of several seeds, published numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import Literal, TypeAlias

from evlvideo.comparison.rows.seeds import SeedGroup
from evlvideo.comparison.rows.system import System

Regime = Literal["trained", "scored", "quoted"]
"""How a row came about: a run that was trained and scored here, captions of another system that were scored here on the
same clips, or numbers that others published."""

SCORES = ("cider", "bleu_4", "meteor", "rouge_l")
"""Metrics in the order of EVLGen's poster."""
Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Row:
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
    """Where a quoted row is from, or the file of a scored one."""
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    """95 % interval over clips by column key, in the unit of the value."""
    p_values: Mapping[str, float] = field(default_factory=dict)
    """By column key: how likely so large a difference from the chosen row is, were there none in any row."""
    differences: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    """By column key: the value minus the chosen row's, and the two ends of its 95 % interval."""
    is_human: bool = False
    """Whether it was scored against other references than the other rows, as people are; it is never the best."""

    by_seed: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    """Scores of each seed by column key, where the values are means over seeds."""

    @property
    def comparable(self) -> bool:
        """Whether its scores may be ranked with those of other rows: measured here, on all clips, alike."""
        return self.regime != "quoted" and not self.partial and not self.is_human

    @property
    def partial(self) -> bool:
        """Whether fewer clips were scored than the split has."""
        return None not in (self.clips_scored, self.clips_expected) and self.clips_scored != self.clips_expected


def system_row(run: System) -> Row:
    """Take the columns of the table from a system that was scored here, whether it was trained here or not."""
    result = run.result
    values: dict[str, float | None] = {key: result.scores.get(key) for key in SCORES}
    values |= {subset_key(name): scores.get("cider") for name, scores in (result.evidence_scores or {}).items()}
    if run.regime == "trained":
        values |= {"trained_parameters": run.trained_parameters, "training_seconds": run.training_seconds}
    values["clips_per_second"] = result.clips_per_second
    skipped = dict(result.skipped)
    if "cider" in skipped:
        skipped |= {subset_key(name): skipped["cider"] for name in result.evidence_scores or {}}
    return Row(
        name=run.name,
        regime=run.regime,
        values=values,
        reasons=skipped,
        clips_scored=result.clips_scored,
        clips_expected=result.clips_expected,
        source=run.source,
        is_human=run.is_human,
    )


def group_row(pool: SeedGroup) -> Row:
    """Take the columns of a row: of one system, or the means over seeds and how far they are apart."""
    entries = [system_row(run) for run in pool.runs]
    if len(entries) == 1:
        return replace(entries[0], name=pool.name)
    means = {key: _mean([entry.values.get(key) for entry in entries]) for key in entries[0].values}
    found = [value for entry in entries if (value := entry.values.get("cider")) is not None]
    if means.get("cider") is not None:
        means |= {"cider_sd": stdev(found), "cider_lowest": min(found), "cider_highest": max(found)}
    by_seed = {
        seed: {key: value for key in SCORES if (value := entry.values.get(key)) is not None}
        for seed, entry in zip(pool.seeds, entries, strict=True)
    }
    reasons = {key: reason for entry in entries for key, reason in entry.reasons.items()}
    return replace(entries[0], name=pool.name, values=means, reasons=reasons, by_seed=by_seed)


def _mean(values: Sequence[float | None]) -> float | None:
    """The mean where every run has a value; a whole number stays one."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return known[0] if len(set(known)) == 1 else fmean(known)


def subset_key(subset: str) -> str:
    """The column of a subset's CIDEr."""
    return f"cider_{subset}"

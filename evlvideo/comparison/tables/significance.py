"""Confidence intervals of scores, and significance tests of each row against a chosen one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from evlvideo.comparison.rows.row import SCORES, Row
from evlvideo.comparison.rows.scoring import TokenizedCaptions
from evlvideo.comparison.rows.seeds import S, SeedGroup
from evlvideo.comparison.rows.system import System
from evlvideo.comparison.tables.table import MARKS
from evlvideo.metrics.bootstrap import (
    RESAMPLES,
    Statistics,
    averaged,
    bleu_statistics,
    bootstrap,
    holm,
    interval,
    mean_statistics,
    randomization_p_values,
)
from evlvideo.metrics.names import TITLES

_MEANS = ("cider", "meteor", "rouge_l")
_AGREES = 1e-6
"""Tolerance between a recomputed score and the stored one."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals and tests are made."""

    against: str | None
    """The row that the others are tested against. `None` for no tests."""
    resamples: int = RESAMPLES
    """Resamples of an interval and exchanges of a test."""
    seed: int = 0
    """Seed of both."""


def add_significance(
    rows: Sequence[Row], groups: Sequence[SeedGroup[System]], words: TokenizedCaptions | None, plan: Resampling
) -> tuple[list[Row], list[str]]:
    """Add intervals, differences and p-values to rows of captions.

    Args:
        rows: rows of the table. Quoted ones stay as they are.
        groups: the systems behind the other rows.
        words: tokenized captions and references. If None, BLEU-4 has no intervals.
        plan: number of resamples, seed, and the row to test against.

    Returns:
        the rows, and remarks that explain the numbers.
    """
    made = with_certainty(rows, groups, lambda system: _statistics(system, words), plan)
    return made, _remarks(made, plan)


def with_certainty(
    rows: Sequence[Row],
    groups: Sequence[SeedGroup[S]],
    statistics_of: Callable[[S], Mapping[str, Statistics]],
    plan: Resampling,
) -> list[Row]:
    """Return rows with intervals, differences and p-values.

    Args:
        rows: rows of the table. Quoted ones stay as they are.
        groups: the systems behind the other rows.
        statistics_of: returns column key → statistics of a system's scores, each over as many items in order.
        plan: number of resamples, seed, and the row to test against.
    """
    statistics = {group.name: _averages([statistics_of(run) for run in group.systems]) for group in groups}
    found: dict[str, Row] = {row.name: row for row in rows if row.regime != "quoted"}
    for names in _paired(groups):
        _add({(name, metric): of for name in names for metric, of in statistics[name].items()}, found, plan)
    return [found[row.name] if row.regime != "quoted" else row for row in rows]


def _paired(groups: Sequence[SeedGroup[S]]) -> list[list[str]]:
    """Group the names of rows that were scored on the same items with the same references, so that they pair."""
    by_items: dict[tuple[str, ...], list[str]] = {}
    for group in groups:
        items = tuple(sorted(group.systems[0].scored))
        by_items.setdefault(items if group.comparable else (group.name, "alone"), []).append(group.name)
    return list(by_items.values())


def _averages(of_runs: Sequence[Mapping[str, Statistics]]) -> dict[str, Statistics]:
    """Average the statistics of several systems, for each score that all of them have."""
    return {
        metric: averaged([statistics[metric] for statistics in of_runs])
        for metric in of_runs[0]
        if all(metric in statistics for statistics in of_runs)
    }


def _statistics(system: System, words: TokenizedCaptions | None) -> dict[str, Statistics]:
    """Collect the statistics of the scores that can be recomputed from the clips of a system."""
    result = system.result
    # Sorted, so that systems pair even if they list their clips in another order.
    clips = sorted(result.per_clip)
    found = {
        metric: mean_statistics([result.per_clip[clip_id][metric] for clip_id in clips])
        for metric in _MEANS
        if clips and all(metric in result.per_clip[clip_id] for clip_id in clips)
    }
    captions = {} if words is None else words.captions.get(system.name, {})
    if words is not None and clips and captions.keys() >= set(clips):
        references = words.references_of(system.is_human)
        found["bleu_4"] = bleu_statistics(references.bleu_counts({clip_id: captions[clip_id] for clip_id in clips}))
    return {
        metric: statistics
        for metric, statistics in found.items()
        # METEOR is not the mean of its clips' scores; see the remark.
        if metric in result.scores and (metric == "meteor" or abs(statistics.value - result.scores[metric]) < _AGREES)
    }


def _add(statistics: Mapping[tuple[str, str], Statistics], found: dict[str, Row], plan: Resampling) -> None:
    """Compute the numbers of scores over the same clips, by row and metric, and add them to the rows."""
    if not statistics:
        return
    keys = list(statistics)
    samples = dict(zip(keys, bootstrap(list(statistics.values()), plan.resamples, plan.seed), strict=True))
    for name, metric in keys:
        # 0 except for METEOR, whose corpus score is not the mean.
        shift = (found[name].values[metric] or 0.0) - statistics[name, metric].value
        low, high = interval(samples[name, metric])
        intervals = {**found[name].intervals, metric: (low + shift, high + shift)}
        found[name] = replace(found[name], intervals=intervals)
    base = plan.against or ""
    tested = [(name, metric) for name, metric in keys if name != base and (base, metric) in statistics]
    pairs = [(statistics[base, metric], statistics[name, metric]) for name, metric in tested]
    p_values = _adjusted(tested, randomization_p_values(pairs, plan.resamples, plan.seed))
    for (name, metric), (first, second), p_value in zip(tested, pairs, p_values, strict=True):
        low, high = interval(samples[name, metric] - samples[base, metric])
        # Sums of equal numbers can differ in the last digit.
        difference = round(second.value - first.value, 12), round(low, 12), round(high, 12)
        found[name] = replace(
            found[name],
            p_values={**found[name].p_values, metric: p_value},
            differences={**found[name].differences, metric: difference},
        )


def _adjusted(tested: Sequence[tuple[str, str]], p_values: Sequence[float]) -> list[float]:
    """Correct the p-values of each metric for the number of tested rows."""
    adjusted = list(p_values)
    for metric in {metric for _, metric in tested}:
        indices = [index for index, (_, of) in enumerate(tested) if of == metric]
        for index, p_value in zip(indices, holm([p_values[index] for index in indices]), strict=True):
            adjusted[index] = p_value
    return adjusted


def _remarks(rows: Sequence[Row], plan: Resampling) -> list[str]:
    remarks = []
    having = {metric for row in rows for metric in row.intervals}
    if having:
        remarks.append(
            f"{remark_on_intervals(plan, 'clips')} BLEU-4 is recomputed for each resample; the others are means of the "
            "clips' scores, with CIDEr's document frequencies kept from all clips."
        )
    if "meteor" in having:
        remarks.append(
            "METEOR aggregates counts over all clips and is not the mean of its clips' scores: its intervals are those "
            "of the mean, shifted to the score, and its tests compare the means."
        )
    remarks += remarks_on_tests(rows, plan)
    measured = [row for row in rows if row.regime != "quoted"]
    without = [
        TITLES[metric]
        for metric in SCORES
        if metric not in having and any(row.values.get(metric) is not None for row in measured)
    ]
    if without:
        remarks.append(f"No intervals for {', '.join(without)}: the data that they are computed from is missing.")
    return remarks


def remark_on_intervals(plan: Resampling, items: str) -> str:
    """Say what intervals are."""
    return (
        f"Intervals are 95 % percentiles of {plan.resamples:,} bootstrap resamples of the {items}, seed {plan.seed}; "
        f"they say how much scores depend on the {items}, and nothing about training with another seed."
    )


def remarks_on_tests(rows: Sequence[Row], plan: Resampling) -> list[str]:
    """Say what the marks of tests mean, if there are tests."""
    if not any(row.p_values for row in rows):
        return []
    marks = ", ".join(f"{mark} p < {level}" for level, mark in reversed(MARKS.items()))
    return [
        f"{marks}, better or worse than {plan.against}: two-sided approximate randomisation, {plan.resamples:,} "
        "exchanges, corrected within each score for the number of rows by Holm's method."
    ]

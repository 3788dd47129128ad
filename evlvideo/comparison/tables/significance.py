"""How certain the numbers of a table are: an interval for each score, and a test of each row against a chosen one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from evlvideo.comparison.rows.row import SCORES, Row
from evlvideo.comparison.rows.scoring import TokenizedCaptions
from evlvideo.comparison.rows.seeds import SeedGroup
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
"""How far a score computed again may be from the one that is stored."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals and tests are made."""

    against: str | None
    """The row that the others are tested against; `None` where there is none."""
    resamples: int = RESAMPLES
    """Draws for an interval, and exchanges for a test."""
    seed: int = 0
    """Of both."""


def add_significance(
    entries: Sequence[Row], pools: Sequence[SeedGroup], words: TokenizedCaptions | None, plan: Resampling
) -> tuple[list[Row], list[str]]:
    """Give entries their intervals, differences and p-values.

    Args:
        entries: rows; those of no system, which only quote, stay as they are.
        pools: what was scored here, one a row.
        words: tokenised captions and references, for BLEU-4; without them it has no intervals.
        plan: how.

    Returns:
        the entries, and sentences on what the numbers are.
    """
    statistics = {pool.name: _averages([_statistics(run, words) for run in pool.runs]) for pool in pools}
    found: dict[str, Row] = {entry.name: entry for entry in entries if entry.regime != "quoted"}
    for names in _groups(pools):
        _add({(name, metric): of for name in names for metric, of in statistics[name].items()}, found, plan)
    made = [found[entry.name] if entry.regime != "quoted" else entry for entry in entries]
    return made, _remarks(made, plan)


def _groups(pools: Sequence[SeedGroup]) -> list[list[str]]:
    """Names of rows that were scored on the same clips with the same references, so that they pair."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for pool in pools:
        clips = tuple(sorted(pool.shown.result.per_clip))
        groups.setdefault(clips if pool.comparable else (pool.name, "alone"), []).append(pool.name)
    return list(groups.values())


def _averages(of_runs: Sequence[Mapping[str, Statistics]]) -> dict[str, Statistics]:
    """Statistics of the means over runs, of those scores that every run has."""
    return {
        metric: averaged([statistics[metric] for statistics in of_runs])
        for metric in of_runs[0]
        if all(metric in statistics for statistics in of_runs)
    }


def _statistics(system: System, words: TokenizedCaptions | None) -> dict[str, Statistics]:
    """Statistics of those scores of a system that what is known of its clips gives again."""
    result = system.result
    # Sorted, so that systems that list the same clips in another order are still pairs.
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
        # METEOR is no mean of its clips' scores; see the remark.
        if metric in result.scores and (metric == "meteor" or abs(statistics.value - result.scores[metric]) < _AGREES)
    }


def _add(statistics: Mapping[tuple[str, str], Statistics], found: dict[str, Row], plan: Resampling) -> None:
    """Give entries the numbers of scores, by system and metric, that are over the same clips."""
    if not statistics:
        return
    keys = list(statistics)
    samples = dict(zip(keys, bootstrap(list(statistics.values()), plan.resamples, plan.seed), strict=True))
    for name, metric in keys:
        # 0 but for METEOR, whose corpus score is not the mean.
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
        # Sums of equal numbers can differ in their last digit.
        difference = round(second.value - first.value, 12), round(low, 12), round(high, 12)
        found[name] = replace(
            found[name],
            p_values={**found[name].p_values, metric: p_value},
            differences={**found[name].differences, metric: difference},
        )


def _adjusted(tested: Sequence[tuple[str, str]], p_values: Sequence[float]) -> list[float]:
    """Correct the p-values of each metric for the number of rows that are tested against the same one."""
    adjusted = list(p_values)
    for metric in {metric for _, metric in tested}:
        places = [place for place, (_, of) in enumerate(tested) if of == metric]
        for place, p_value in zip(places, holm([p_values[place] for place in places]), strict=True):
            adjusted[place] = p_value
    return adjusted


def _remarks(entries: Sequence[Row], plan: Resampling) -> list[str]:
    remarks = []
    having = {metric for entry in entries for metric in entry.intervals}
    if having:
        remarks.append(
            f"Intervals are 95 % percentiles of {plan.resamples:,} bootstrap draws of clips, seed {plan.seed}; they "
            "say how much scores depend on the clips, and nothing about training with another seed. BLEU-4 is computed "
            "anew for each draw; the others are means of the clips' scores, with CIDEr's document frequencies kept "
            "from all clips."
        )
    if "meteor" in having:
        remarks.append(
            "METEOR adds up counts of all clips and is no mean of its clips' scores: its intervals are those of the "
            "mean, moved to the score, and its tests compare the means."
        )
    if any(entry.p_values for entry in entries):
        marks = ", ".join(f"{mark} p < {level}" for level, mark in reversed(MARKS.items()))
        remarks.append(
            f"{marks}, better or worse than {plan.against}: two-sided approximate randomisation, {plan.resamples:,} "
            "exchanges, corrected within each score for the number of rows by Holm's method."
        )
    measured = [entry for entry in entries if entry.regime != "quoted"]
    without = [
        TITLES[metric]
        for metric in SCORES
        if metric not in having and any(entry.values.get(metric) is not None for entry in measured)
    ]
    if without:
        remarks.append(f"No intervals for {', '.join(without)}: what they are computed from is not at hand.")
    return remarks

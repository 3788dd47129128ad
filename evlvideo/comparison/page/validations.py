"""Chooses what the page shows of validations: sample captions at some steps, and what was wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

from evlvideo.comparison.rows.system import System
from evlvideo.results.validation_records import ValidationRecord

MOST_SHOWN = 6
"""Validations of a run whose samples are shown, evenly spaced from the first to the last."""


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning by its latest text, with the steps of the validations that it is from."""

    steps: str
    text: str


@dataclass(frozen=True, slots=True)
class RunValidations:
    """What validations of one run saw."""

    system: int
    """Index of the system in the comparison."""
    name: str
    warnings: tuple[Warned, ...]
    shown: tuple[ValidationRecord, ...]


def validations_of(runs: Sequence[System]) -> list[RunValidations]:
    """Choose what to show of each run that has validations."""
    return [
        RunValidations(system, run.name, _warnings(run.validations), _spaced(_with_samples(run.validations)))
        for system, run in enumerate(runs)
        if run.validations
    ]


def _with_samples(records: Sequence[ValidationRecord]) -> list[ValidationRecord]:
    return [record for record in records if record.samples]


def _spaced(records: Sequence[ValidationRecord]) -> tuple[ValidationRecord, ...]:
    if len(records) <= MOST_SHOWN:
        return tuple(records)
    last = len(records) - 1
    return tuple(records[round(place * last / (MOST_SHOWN - 1))] for place in range(MOST_SHOWN))


def _warnings(records: Sequence[ValidationRecord]) -> tuple[Warned, ...]:
    """Join the warnings of one name, in the order in which they first appeared."""
    by_name: dict[str, list[tuple[int, str]]] = {}
    for record in records:
        for warning in record.warnings:
            by_name.setdefault(warning.partition(":")[0], []).append((record.step, warning))
    return tuple(Warned(_spelled([step for step, _ in found]), found[-1][1]) for found in by_name.values())


def _spelled(steps: Sequence[int]) -> str:
    first, last = steps[0], steps[-1]
    return f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"

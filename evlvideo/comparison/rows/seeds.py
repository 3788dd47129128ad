"""Groups of systems whose mean is one row: runs that differ in nothing but their seed."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os.path import commonprefix
from pathlib import Path
from typing import Any, Generic, TypeVar

from evlvideo.comparison.rows.system import Scored
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.results.run_directory import CONFIG_NAME, run_config

_STARTS = ("init", "connector_init")
_ENDING = re.compile(r"([-_. ]*seeds?[-_. ]*\d*|[-_. ]+\d*)$", re.IGNORECASE)
"""The end of a name that several seeds share, such as `-seed-1` of `run-seed-1` and `run-seed-12`."""

S = TypeVar("S", bound=Scored)


@dataclass(frozen=True, slots=True)
class SeedGroup(Generic[S]):
    """The systems behind one row: a single one, or runs of several seeds."""

    name: str
    systems: tuple[S, ...]
    """One or more. If several, each was trained with its own seed and all were scored on the same items."""
    seeds: tuple[int, ...] = ()
    """Seed of each system. Empty if seeds are not grouped."""

    @classmethod
    def of_one(cls, system: S) -> "SeedGroup[S]":
        """Give a system a row of its own."""
        return cls(system.name, (system,))

    @property
    def representative(self) -> S:
        """The first system under the name of the row. A report shows its texts and curves."""
        return replace(self.systems[0], name=self.name)  # type: ignore[type-var]  # systems are dataclasses

    @property
    def comparable(self) -> bool:
        """Whether all systems pair with other rows."""
        return all(system.comparable for system in self.systems)


def group_seeds(systems: Sequence[S]) -> list[SeedGroup[S]]:
    """Group runs whose configs differ in nothing but the seed, in the order of their first runs.

    A run that starts from another run equals one that starts from that run with another seed. A system without config,
    or one that was only scored here, is a group of its own.

    Raises:
        UserError: two runs of a group have the same seed, or were scored on different clips.
    """
    members: dict[str, list[S]] = {}
    for system in systems:
        config = _trained_with(system)
        key = json.dumps(_but_for_seed(config), sort_keys=True, default=str) if config else system.name
        members.setdefault(key, []).append(system)
    groups = [
        SeedGroup(_name(runs), tuple(runs), tuple(config.seed for run in runs if (config := _trained_with(run))))
        for runs in members.values()
    ]
    for group in groups:
        _check(group)
    names = [group.name for group in groups]
    return [group if names.count(group.name) == 1 else replace(group, name=group.systems[0].name) for group in groups]


def seed_remarks(groups: Sequence[SeedGroup]) -> list[str]:
    """Say which seeds the numbers of a table come from, and whose captions stand for a row."""
    several = [group for group in groups if len(group.systems) > 1]
    if not several:
        return []
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for group in groups:
        if group.seeds:
            by_seeds.setdefault(group.seeds, []).append(group.name)
    listed = "; ".join(
        ", ".join(map(str, seeds)) + (f" ({', '.join(names)})" if len(by_seeds) > 1 else "")
        for seeds, names in by_seeds.items()
    )
    return [
        f"Rows are means over runs that differ in their seed alone: {listed}. Intervals and tests are of these means. "
        "SD is the sample standard deviation between seeds. In a report, captions, kinds of clips, who wins, learning "
        "curves and images are of the first seed."
    ]


def _but_for_seed(config: RunConfig, inside: frozenset[Path] = frozenset()) -> Mapping[str, Any]:
    """The config without seed and output directory. If it starts from a run, that run's config replaces the path."""
    values: dict[str, Any] = asdict(config)
    del values["seed"], values["output_dir"]
    for key in _STARTS:
        start = Path(values[key] or "").resolve()
        if values[key] and start not in inside and (start / CONFIG_NAME).is_file():
            values[key] = _but_for_seed(run_config(start), inside | {start})
    return values


def _trained_with(system: Scored) -> RunConfig | None:
    return system.config if system.regime == "trained" else None


def _name(runs: Sequence[Scored]) -> str:
    """The common part of the names of the runs' directories, or else the name of their parent."""
    paths = [run.directory.resolve() for run in runs if run.directory is not None]
    if len(paths) < 2:
        return runs[0].name
    own, parents = [path.name for path in paths], {path.parent for path in paths}
    shared = own[0] if len(set(own)) == 1 else _ENDING.sub("", commonprefix(own))  # noqa: RUF071  compares characters, not parts of a path
    return shared or (parents.pop().name if len(parents) == 1 else "") or runs[0].name


def _check(group: SeedGroup) -> None:
    for seed in group.seeds:
        if group.seeds.count(seed) > 1:
            twice = [run.name for run, its in zip(group.systems, group.seeds, strict=True) if its == seed]
            raise UserError(
                f"{' and '.join(twice)} are the same run with the same seed, {seed}; name one of them, or leave "
                "--over-seeds away."
            )
    scored = {frozenset(run.scored) for run in group.systems}
    if len(scored) > 1:
        raise UserError(
            f"The seeds of {group.name} were scored on different clips ("
            + ", ".join(f"{run.name}: {len(run.scored)} of {run.expected}" for run in group.systems)
            + "); evaluate them again on clips that can be read, or leave --over-seeds away."
        )

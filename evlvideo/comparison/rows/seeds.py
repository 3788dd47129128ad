"""Rows of a table that stand for several runs: the same run, trained with one seed after another."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from os.path import commonprefix
from pathlib import Path
from typing import Any

from evlvideo.comparison.rows.system import System
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError
from evlvideo.results.run_directory import CONFIG_NAME, run_config

_STARTS = ("init", "connector_init")
_ENDING = re.compile(r"([-_. ]*seeds?[-_. ]*\d*|[-_. ]+\d*)$", re.IGNORECASE)
"""What is left at the end of a name that several seeds share: `-seed-1` of `run-seed-1` and `run-seed-12`."""


@dataclass(frozen=True, slots=True)
class SeedGroup:
    """What one row of a table stands for."""

    name: str
    runs: tuple[System, ...]
    """One or more; of several, each was trained with another seed, and all were scored on the same clips."""
    seeds: tuple[int, ...] = ()
    """Seed of each run; empty where runs are not pooled."""

    @classmethod
    def of_one(cls, run: System) -> "SeedGroup":
        """A row of its own."""
        return cls(run.name, (run,))

    @property
    def shown(self) -> System:
        """The first run under the row's name: its captions and curves are what a report shows."""
        return replace(self.runs[0], name=self.name)

    @property
    def comparable(self) -> bool:
        """Whether all runs were scored on all clips, with the references of the other rows."""
        return all(run.comparable for run in self.runs)


def group_seeds(systems: Sequence[System]) -> list[SeedGroup]:
    """Put runs whose configs differ in nothing but the seed into one row each, in the order of their first runs.

    A run that starts from another run is the same as one that starts from that run with another seed. What has no
    config, and what was only scored here, has a row of its own.

    Raises:
        UserError: two runs of a row have the same seed, or were scored on other clips.
    """
    members: dict[str, list[System]] = {}
    for system in systems:
        config = _trained_with(system)
        key = json.dumps(_but_for_seed(config), sort_keys=True, default=str) if config else system.name
        members.setdefault(key, []).append(system)
    pools = [
        SeedGroup(_name(runs), tuple(runs), tuple(config.seed for run in runs if (config := _trained_with(run))))
        for runs in members.values()
    ]
    for pool in pools:
        _check(pool)
    names = [pool.name for pool in pools]
    return [pool if names.count(pool.name) == 1 else replace(pool, name=pool.runs[0].name) for pool in pools]


def seed_remarks(pools: Sequence[SeedGroup]) -> list[str]:
    """Say which seeds a table's numbers are of, and whose captions stand for a row."""
    several = [pool for pool in pools if len(pool.runs) > 1]
    if not several:
        return []
    by_seeds: dict[tuple[int, ...], list[str]] = {}
    for pool in pools:
        if pool.seeds:
            by_seeds.setdefault(pool.seeds, []).append(pool.name)
    listed = "; ".join(
        ", ".join(map(str, seeds)) + (f" ({', '.join(names)})" if len(by_seeds) > 1 else "")
        for seeds, names in by_seeds.items()
    )
    return [
        f"Rows are means over runs that differ in their seed alone: {listed}. Intervals and tests are of these means. "
        "SD is the standard deviation between seeds, of a sample. In a report, captions, kinds of clips, who wins, "
        "learning curves and pictures are of the first seed."
    ]


def _but_for_seed(config: RunConfig, inside: frozenset[Path] = frozenset()) -> Mapping[str, Any]:
    """The config without its seed and place; where it starts from a run, that run's config is in place of its path."""
    values: dict[str, Any] = asdict(config)
    del values["seed"], values["output_dir"]
    for key in _STARTS:
        start = Path(values[key] or "").resolve()
        if values[key] and start not in inside and (start / CONFIG_NAME).is_file():
            values[key] = _but_for_seed(run_config(start), inside | {start})
    return values


def _trained_with(system: System) -> RunConfig | None:
    return system.config if system.regime == "trained" else None


def _name(runs: Sequence[System]) -> str:
    """What the runs' directories share: their own name, as far as it is the same, or else the name of their parent."""
    paths = [run.directory.resolve() for run in runs if run.directory is not None]
    if len(paths) < 2:
        return runs[0].name
    own, parents = [path.name for path in paths], {path.parent for path in paths}
    shared = own[0] if len(set(own)) == 1 else _ENDING.sub("", commonprefix(own))  # noqa: RUF071  characters are meant, not parts of a path
    return shared or (parents.pop().name if len(parents) == 1 else "") or runs[0].name


def _check(pool: SeedGroup) -> None:
    for seed in pool.seeds:
        if pool.seeds.count(seed) > 1:
            twice = [run.name for run, its in zip(pool.runs, pool.seeds, strict=True) if its == seed]
            raise UserError(
                f"{' and '.join(twice)} are the same run with the same seed, {seed}; name one of them, or do not pool "
                "seeds."
            )
    scored = {frozenset(run.result.per_clip) for run in pool.runs}
    if len(scored) > 1:
        raise UserError(
            f"The seeds of {pool.name} were scored on different clips ("
            + ", ".join(f"{run.name}: {run.result.clips_scored} of {run.result.clips_expected}" for run in pool.runs)
            + "); evaluate them again on clips that can be read, or do not pool seeds."
        )

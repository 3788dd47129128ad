"""What a study will do: every run is checked before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError, raise_problems
from evlvideo.estimate.run_costs import clip_costs
from evlvideo.experiments.resumable import check_settings

_OWN = ("seed", "output_dir")
"""Keys that the study itself sets."""
_WHERE = "Nothing was trained; the study"


@dataclass(frozen=True, slots=True)
class StudyRun:
    """One config with one seed."""

    name: str
    """Of the row: the config's file without its ending."""
    seed: int
    config: RunConfig

    @property
    def title(self) -> str:
        """What log lines call it."""
        return f"{self.name}, seed {self.seed}"

    @property
    def directory(self) -> Path:
        """Of the run."""
        return Path(self.config.output_dir)


@dataclass(frozen=True, slots=True)
class Study:
    """A study before it runs."""

    out: Path
    """Directory of the runs, `seed-N/NAME`, and of the comparison, `report`."""
    names: tuple[str, ...]
    """Rows, in the order given."""
    seeds: tuple[int, ...]
    runs: tuple[StudyRun, ...]
    """Seed by seed, so that a study that is stopped has whole comparisons."""


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds with commas between them.

    Raises:
        UserError: one is no whole number of 0 or more, or is there twice.
    """
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not (part.isascii() and part.isdecimal())]
    if wrong:
        raise UserError(
            f"--seeds {text!r} has {wrong[0]!r}; give whole numbers, 0 or more, with commas between, such as 42,1,2."
        )
    seeds = tuple(map(int, parts))
    twice = [seed for seed in seeds if seeds.count(seed) > 1]
    if twice:
        raise UserError(f"--seeds {text!r} has {twice[0]} {seeds.count(twice[0])} times; give each seed once.")
    return seeds


def plan_study(configs: Sequence[Path], seeds: Sequence[int], out: Path, *, settings: Sequence[str] = ()) -> Study:
    """Read the configs of a study, and make sure that every run can be made.

    Args:
        configs: runs, as YAML; each is a row, named as its file.
        seeds: each run is trained with each of them.
        out: directory of the study.
        settings: `key=value` for all runs.

    Raises:
        UserError: there is no config, one is a change, two have one name, a setting is the study's own, or a config is
            wrong (all problems are listed). Or a directory of the study holds a run with other settings.
    """
    changes = [str(path) for path in configs if "=" in str(path) and not path.exists()]
    if changes:
        raise UserError(f"{changes[0]} is a change and not a config; give it as --set {changes[0]}.")
    names = [path.stem for path in configs]
    problems = [f"{name} is the name of {names.count(name)} configs" for name in names if names.count(name) > 1]
    own = [setting for setting in settings if setting.partition("=")[0].strip() in _OWN]
    problems += [f"{setting}: seeds are given by --seeds, and directories by --out" for setting in own]
    if not configs:
        problems.append("no configs are given")
    if not seeds:
        problems.append("no seeds are given")
    raise_problems(_WHERE, problems)
    runs = []
    for path in configs:
        try:
            config = load_config(path, list(settings))
            # Builds the model without weights, so that what does not fit together is said before hours of training.
            clip_costs(config)
            runs.append(config)
        except UserError as error:
            problems.append(f"{path}: {error}")
    raise_problems(_WHERE, problems)
    planned = tuple(
        StudyRun(name, seed, replace(config, seed=seed, output_dir=str(out / f"seed-{seed}" / name)))
        for seed in seeds
        for name, config in zip(names, runs, strict=True)
    )
    check_settings(run.config for run in planned)
    return Study(out, tuple(names), tuple(seeds), planned)

"""Plan a study: every run is checked before anything is trained."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evlvideo.config.loading import load_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError, raise_problems
from evlvideo.estimate.run_costs import clip_costs
from evlvideo.experiments.resumable import check_captions, check_settings

_OWN = ("seed", "output_dir")
"""Keys that the study sets."""
_WHERE = "Nothing was trained; the study"


@dataclass(frozen=True, slots=True)
class StudyRun:
    """One config with one seed."""

    name: str
    """Name of the row: the config's file without its suffix."""
    seed: int
    config: RunConfig

    @property
    def title(self) -> str:
        """Return what log lines call it."""
        return f"{self.name}, seed {self.seed}"

    @property
    def directory(self) -> Path:
        """Return the directory of the run."""
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
    """Seed by seed, so that a stopped study has complete comparisons."""


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read comma-separated seeds.

    Raises:
        UserError: a seed is not a whole number, at least 0, or is repeated.
    """
    parts = [part.strip() for part in text.split(",")]
    wrong = [part for part in parts if not (part.isascii() and part.isdecimal())]
    if wrong:
        raise UserError(
            f"--seeds {text!r} has {wrong[0]!r}; give whole numbers, at least 0, separated by commas, such as 42,1,2."
        )
    seeds = tuple(map(int, parts))
    twice = [seed for seed in seeds if seeds.count(seed) > 1]
    if twice:
        raise UserError(f"--seeds {text!r} has {twice[0]} {seeds.count(twice[0])} times; give each seed once.")
    return seeds


def plan_study(configs: Sequence[Path], seeds: Sequence[int], out: Path, *, settings: Sequence[str] = ()) -> Study:
    """Read the configs of a study, and check that every run can be trained.

    Args:
        configs: runs, as YAML; each is a row, named after its file.
        seeds: each run is trained with each of them.
        out: directory of the study.
        settings: `key=value` for all runs.

    Raises:
        UserError: there are no configs, one is a setting, two share a name, a setting belongs to the study, or a config
            is wrong (all problems are listed); or a directory of the study holds a run with other settings.
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
            check_captions(config)
            # Builds the model without weights, to find what does not fit together before hours of training.
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

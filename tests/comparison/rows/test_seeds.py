from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evlvideo.comparison.rows.runs import read_runs
from evlvideo.comparison.rows.seeds import SeedGroup, group_seeds, seed_remarks
from evlvideo.comparison.rows.system import System
from evlvideo.config.loading import load_config, save_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import UserError

Evaluated = Callable[..., Path]


@pytest.fixture
def evaluated(make_run: Any) -> Evaluated:
    """Write an evaluated run with a config."""

    def make(name: str, seed: int, *changes: str, **fields: Any) -> Path:
        directory: Path = make_run(name, **fields)
        config = RunConfig(seed=seed, output_dir=str(directory))
        save_config(config, directory / "config.yaml")
        save_config(load_config(directory / "config.yaml", list(changes)), directory / "config.yaml")
        return directory

    return make


def pools(*directories: Path) -> list[tuple[str, tuple[int, ...]]]:
    return [(pool.name, pool.seeds) for pool in group_seeds(read_runs(directories, "test"))]


def test_runs_that_differ_in_their_seed_alone_are_one_row(evaluated: Evaluated) -> None:
    runs = [
        evaluated(f"seed-{seed}/{name}", seed, f"model.fusion={name}")
        for seed in (42, 1)
        for name in ("mean", "concat")
    ]
    assert pools(*runs) == [("mean", (42, 1)), ("concat", (42, 1))]


def test_another_setting_is_another_row(evaluated: Evaluated) -> None:
    runs = [evaluated("a", 1), evaluated("b", 2, "training.learning_rate=1e-3")]
    assert pools(*runs) == [("a", (1,)), ("b", (2,))]


def test_runs_that_start_from_the_same_run_of_another_seed_are_one_row(evaluated: Evaluated) -> None:
    starts = {seed: evaluated(f"start-{seed}", seed) for seed in (1, 2)}
    other = evaluated("other", 3, "training.max_steps=7")
    runs = [evaluated(f"scst-{seed}", seed, "stage=scst", f"init={start}") for seed, start in starts.items()]
    odd = evaluated("scst-3", 3, "stage=scst", f"init={other}")
    assert pools(*runs, odd) == [("scst", (1, 2)), ("scst-3", (3,))]


def test_a_run_that_starts_from_itself_ends(evaluated: Evaluated) -> None:
    runs = [evaluated("a-1", 1), evaluated("a-2", 2)]
    for run in runs:
        config = load_config(run / "config.yaml", [f"init={run}"])
        save_config(config, run / "config.yaml")
    assert len(pools(*runs)) == 2


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("seed-1/in_tower", "seed-2/in_tower"), "in_tower"),
        (("blip2-seed-1", "blip2-seed-12"), "blip2"),
        (("blip2_seed1", "blip2_seed2"), "blip2"),
        (("blip2.1", "blip2.2"), "blip2"),
        (("blip2", "blip2b"), "blip2"),
        (("concat/seed-1", "concat/seed-2"), "concat"),
        (("concat/1", "concat/2"), "concat"),
        (("one/here", "two/there"), "here"),
    ],
)
def test_the_name_is_what_the_directories_share(evaluated: Evaluated, names: tuple[str, str], expected: str) -> None:
    assert pools(*(evaluated(name, seed) for seed, name in enumerate(names))) == [(expected, (0, 1))]


def test_rows_that_would_have_one_name_keep_their_first_runs(evaluated: Evaluated) -> None:
    changes = {"x": "model.fusion=mean", "y": "model.fusion=concat"}
    runs = [evaluated(f"{place}/seed-{seed}/run", seed, change) for place, change in changes.items() for seed in (1, 2)]
    assert [name for name, _ in pools(*runs)] == ["x/seed-1/run", "y/seed-1/run"]


def test_what_has_no_config_has_a_row_of_its_own(make_run: Any, evaluated: Evaluated) -> None:
    assert pools(make_run("bare"), make_run("bare2"), evaluated("run", 1)) == [
        ("bare", ()),
        ("bare2", ()),
        ("run", (1,)),
    ]


def test_captions_from_elsewhere_have_a_row_of_their_own(evaluated: Evaluated) -> None:
    read = read_runs([evaluated("a-1", 1), evaluated("a-2", 2)], "test")
    scored = [replace(run, regime="scored") for run in read]
    assert [pool.name for pool in group_seeds(scored)] == ["a-1", "a-2"]


def test_one_seed_twice_is_refused(evaluated: Evaluated) -> None:
    with pytest.raises(UserError, match="a and b are the same run with the same seed, 5; name one of them"):
        pools(evaluated("a", 5), evaluated("b", 5))


def test_seeds_that_were_scored_on_other_clips_are_refused(evaluated: Evaluated) -> None:
    short = evaluated("a-2", 2, per_clip={"video0": {"cider": 0.5}}, clips_scored=1)
    with pytest.raises(UserError, match="a-1: 6 of 6, a-2: 1 of 6"):
        pools(evaluated("a-1", 1), short)


def test_the_first_seed_is_shown_under_the_row_s_name(evaluated: Evaluated) -> None:
    pool = group_seeds(read_runs([evaluated("a-7", 7), evaluated("a-1", 1)], "test"))[0]
    assert (pool.shown.name, pool.shown.directory) == ("a", pool.runs[0].directory)


class TestRemarks:
    @staticmethod
    def pool(name: str, *seeds: int) -> SeedGroup:
        run = System.__new__(System)
        return SeedGroup(name, (run,) * max(1, len(seeds)), seeds)

    def test_they_name_the_seeds_once_where_all_rows_have_them(self) -> None:
        (remark,) = seed_remarks([self.pool("a", 42, 1), self.pool("b", 42, 1)])
        assert "differ in their seed alone: 42, 1. Intervals" in remark

    def test_they_name_the_rows_where_seeds_differ(self) -> None:
        (remark,) = seed_remarks([self.pool("a", 42, 1), self.pool("b", 42)])
        assert "42, 1 (a); 42 (b)" in remark

    def test_there_are_none_where_no_row_has_several(self) -> None:
        assert seed_remarks([self.pool("a", 42), self.pool("b")]) == []

from pathlib import Path
from typing import Any

import pytest
from toy_run import Toy

from evlvideo.config.loading import load_config, save_config
from evlvideo.errors import UserError
from evlvideo.experiments.study.plan import Study, parse_seeds, plan_study


@pytest.fixture
def configs(toy: Toy, tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "given" / name for name in ("mean.yaml", "concat.yaml")]
    paths[0].parent.mkdir()
    for path in paths:
        save_config(toy.config(tmp_path / "run", model={"fusion": path.stem}), path)
    return paths


@pytest.fixture
def plan(tmp_path: Path) -> Any:
    def make(configs: list[Path], seeds: tuple[int, ...] = (5, 1), *settings: str) -> Study:
        return plan_study(configs, seeds, tmp_path / "study", settings=settings)

    return make


def test_runs_go_seed_by_seed_each_in_a_directory_of_its_own(plan: Any, configs: list[Path], tmp_path: Path) -> None:
    made = plan(configs, (5, 1), "training.max_steps=2")
    assert (made.names, made.seeds) == (("mean", "concat"), (5, 1))
    assert [str(run.directory.relative_to(tmp_path)) for run in made.runs] == [
        "study/seed-5/mean",
        "study/seed-5/concat",
        "study/seed-1/mean",
        "study/seed-1/concat",
    ]
    assert [(run.config.seed, run.config.model.fusion) for run in made.runs[1:3]] == [(5, "concat"), (1, "mean")]
    assert {run.config.training.max_steps for run in made.runs} == {2}
    assert not (tmp_path / "study").exists()


def test_configs_of_one_name_are_refused(plan: Any, configs: list[Path]) -> None:
    with pytest.raises(UserError, match="mean is the name of 2 configs"):
        plan([*configs, configs[0]])


@pytest.mark.parametrize("setting", ["seed=3", "output_dir=here"])
def test_what_the_study_sets_is_no_setting(plan: Any, configs: list[Path], setting: str) -> None:
    with pytest.raises(UserError, match=f"{setting}: seeds are given by --seeds, and directories by --out"):
        plan(configs, (5,), setting)


def test_runs_that_are_validated_on_questions_are_refused(plan: Any, configs: list[Path]) -> None:
    with pytest.raises(UserError, match=r"mean\.yaml: data\.kind is questions, but captions are compared here"):
        plan(configs, (5,), "data.kind=questions", "data.dataset=mini_images")


def test_every_config_that_is_wrong_is_named(plan: Any, configs: list[Path]) -> None:
    for path, change in zip(configs, ("model.merge_r=[1,2,3]", "init=nowhere/at/all"), strict=True):
        save_config(load_config(path, [change]), path)
    with pytest.raises(
        UserError,
        match=r"(?s)Nothing was trained; the study has 2 problems:\n.*mean.yaml: .*merge_r.*concat.yaml: .*nowhere",
    ):
        plan(configs)


def test_nothing_to_do_is_refused(plan: Any, configs: list[Path]) -> None:
    with pytest.raises(UserError, match="no configs are given"):
        plan([])
    with pytest.raises(UserError, match="no seeds are given"):
        plan(configs, ())


def test_a_directory_with_other_settings_is_refused(plan: Any, configs: list[Path]) -> None:
    run = plan(configs).runs[1]
    run.directory.mkdir(parents=True)
    save_config(run.config, run.directory / "config.yaml")
    plan(configs)
    with pytest.raises(UserError, match=r"seed-5/concat holds a run with other settings \(training.max_steps\)"):
        plan(configs, (5, 1), "training.max_steps=3")


def test_seeds_are_read_in_their_order() -> None:
    assert parse_seeds("42, 1,2") == (42, 1, 2)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has ''"),
        ("1,,2", "has ''"),
        ("1,-2", "has '-2'"),
        ("1.5", "has '1.5'"),
        ("²", "has '²'"),
        ("7,7", "7 2 times"),
    ],
)
def test_other_seeds_are_refused(text: str, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        parse_seeds(text)


@pytest.mark.parametrize("change", ["training.max_steps=4", "init=runs/other"])
def test_a_change_among_the_configs_is_told_where_it_belongs(tmp_path: Path, change: str) -> None:
    with pytest.raises(UserError, match=f"{change} is a change and not a config; give it as --set {change}"):
        plan_study([Path("linear.yaml"), Path(change)], [1], tmp_path)

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evlvideo.comparison.rows.runs import read_runs
from evlvideo.comparison.rows.seeds import SeedGroup
from evlvideo.comparison.rows.training_differences import training_difference_remarks
from evlvideo.config.loading import load_config, save_config
from evlvideo.config.run import RunConfig

Remarks = Callable[..., list[str]]


@pytest.fixture
def remarks(make_run: Any) -> Remarks:
    """Remarks on runs, given by the changes to their configs; a run without is bare."""

    def make(**runs: list[str] | None) -> list[str]:
        directories: list[Path] = []
        for name, changes in runs.items():
            directories.append(make_run(name))
            if changes is not None:
                path = directories[-1] / "config.yaml"
                save_config(RunConfig(output_dir=name), path)
                save_config(load_config(path, changes), path)
        return training_difference_remarks([SeedGroup.of_one(run) for run in read_runs(directories, "test")])

    return make


def test_models_seeds_and_places_are_no_difference(remarks: Remarks) -> None:
    assert remarks(a=[], b=["model.fusion=concat", "seed=7", "data.num_workers=1", "training.log_steps=3"]) == []


def test_what_was_trained_otherwise_is_named_with_its_rows(remarks: Remarks) -> None:
    (remark,) = remarks(a=[], b=["training.max_steps=9"], c=["training.max_steps=9", "init=other"])
    assert remark == "Not trained alike: init mini (a, b), other (c); training.max_steps 50000 (a), 9 (b, c)."


def test_a_list_of_differences_has_values_of_a_few(remarks: Remarks) -> None:
    changed = ["max_steps=9", "batch_size=9", "learning_rate=9e-3", "warmup_steps=3", "weight_decay=0", "eval_steps=3"]
    (remark,) = remarks(a=[], b=["init=x", *(f"training.{change}" for change in changed)])
    assert remark.endswith("; and in training.eval_steps.")


def test_stages_are_compared_each_with_its_own(remarks: Remarks) -> None:
    assert remarks(a=[], b=["stage=scst", "training.max_steps=9"]) == []


def test_a_run_without_a_config_is_passed_over(remarks: Remarks) -> None:
    assert remarks(a=[], b=None) == []

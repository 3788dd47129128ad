from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evlvideo.comparison.rows.row import Row, system_row
from evlvideo.comparison.rows.runs import read_runs
from evlvideo.comparison.rows.system import System
from evlvideo.comparison.tables import multiply_adds
from evlvideo.comparison.tables.multiply_adds import add_multiply_adds
from evlvideo.comparison.tables.table import build_table
from evlvideo.config.loading import save_config
from evlvideo.estimate import run_costs
from evlvideo.results.run_directory import run_config

if TYPE_CHECKING:
    from toy_run import Toy


def evaluated(make_run: Any, name: str, directory: Path | None = None, **decoding: Any) -> System:
    read = read_runs([make_run(name, decoding=decoding)], "test")[0]
    return replace(read, directory=directory or read.directory)


def with_costs(*runs: System) -> tuple[dict[str, Row], list[str]]:
    made, remarks = add_multiply_adds([system_row(run) for run in runs], runs)
    return {entry.name: entry for entry in made}, remarks


def test_a_run_costs_what_its_config_says_though_its_start_is_gone(toy: "Toy", make_run: Any, tmp_path: Path) -> None:
    directory = toy.finished_run(tmp_path / "toy")
    expected = run_costs.estimate_run(run_config(directory))
    save_config(replace(run_config(directory), init=str(tmp_path / "gone")), directory / "config.yaml")
    found, remarks = with_costs(evaluated(make_run, "run", directory))
    values = found["run"].values
    assert values["training_multiply_adds"] == expected.training_clip.total
    assert values["captioning_multiply_adds"] == expected.captioning_clip.total
    assert any("counted from each run" in remark for remark in remarks)


def test_captioning_is_that_of_the_evaluation(toy: "Toy", make_run: Any, tmp_path: Path) -> None:
    directory = toy.finished_run(tmp_path / "toy")
    config = run_config(directory)
    longer = replace(config, generation=replace(config.generation, max_new_tokens=12, num_beams=3))
    save_config(replace(config, stage="scst"), directory / "config.yaml")
    found, _ = with_costs(evaluated(make_run, "run", directory, max_new_tokens=12, num_beams=3, sampling="uniform"))
    assert found["run"].values["captioning_multiply_adds"] == run_costs.estimate_run(longer).captioning_clip.total
    scst = run_costs.estimate_run(replace(config, stage="scst"))
    assert found["run"].values["training_multiply_adds"] == scst.training_clip.total


def test_equal_models_are_counted_once(
    toy: "Toy", make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []
    multiply_adds = run_costs.multiply_adds
    monkeypatch.setattr(run_costs, "multiply_adds", lambda *asked: counted.append(asked) or multiply_adds(*asked))
    run_costs._multiply_adds.cache_clear()
    directories = [toy.finished_run(tmp_path / name) for name in ("one", "two")]
    save_config(replace(run_config(directories[1]), seed=7), directories[1] / "config.yaml")
    other = toy.finished_run(tmp_path / "three", fusion="concat")
    with_costs(*(evaluated(make_run, path.name, path) for path in (*directories, other)))
    assert len(counted) == 2


def test_memory_that_no_table_shows_is_not_measured(
    toy: "Toy", make_run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evlvideo.estimate.activations.saved_bytes", lambda *_: pytest.fail("measured"))
    run_costs._multiply_adds.cache_clear()
    found, _ = with_costs(evaluated(make_run, "run", toy.finished_run(tmp_path / "toy")))
    assert found["run"].values["training_multiply_adds"]


def test_the_reason_stands_where_it_cannot_be_counted(make_run: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.yaml").write_text("data: {dataset: mini}\n")
    found, remarks = with_costs(evaluated(make_run, "without"), evaluated(make_run, "broken", broken))
    assert remarks == []
    assert "config.yaml" in found["without"].reasons["training_multiply_adds"]
    assert found["broken"].reasons["captioning_multiply_adds"].startswith("it cannot be counted: ")
    table = build_table("t", list(found.values()))
    assert any(note.startswith("MACs: ") for note in table.footnotes)


def test_captions_from_elsewhere_have_no_costs(make_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiply_adds, "_costs", None)
    found, _ = with_costs(replace(evaluated(make_run, "other"), regime="scored", directory=None))
    assert not found["other"].reasons

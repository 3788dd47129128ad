import json
import time
from pathlib import Path

import pytest

from evlvideo.config.loading import load_config
from evlvideo.errors import Interrupted, UserError
from evlvideo.experiments import demo
from evlvideo.experiments.demo import FINE_TUNED, SCST, run_demo
from evlvideo.experiments.demo_folders import configs_directory

POSTERS_ORDER = ("concat", "mean", "in_tower", "merged", "scst")


def test_runs_are_in_the_posters_order() -> None:
    plain = [name for name in (*FINE_TUNED, SCST) if not name.endswith("_positions")]
    assert tuple(plain) == POSTERS_ORDER


def test_both_contextualizers_are_trained_with_and_without_frame_positions() -> None:
    assert {"in_tower", "in_tower_positions", "merged", "merged_positions"} <= set(FINE_TUNED)


@pytest.mark.parametrize("name", [*FINE_TUNED, SCST])
def test_every_run_has_a_config(name: str) -> None:
    config = load_config(configs_directory() / "mini" / f"{name}.yaml")
    assert config.stage == ("scst" if name == SCST else "caption")
    assert config.data.dataset == "mini"


@pytest.mark.parametrize("name", FINE_TUNED)
def test_runs_start_alike_and_differ_in_the_model_only(name: str) -> None:
    configs = [load_config(configs_directory() / "mini" / f"{other}.yaml") for other in (name, FINE_TUNED[0])]
    assert configs[0].init == configs[1].init == "mini"
    assert configs[0].data == configs[1].data
    assert configs[0].training == configs[1].training
    assert configs[0].generation == configs[1].generation


def test_frame_positions_are_what_the_names_say() -> None:
    for name in FINE_TUNED:
        model = load_config(configs_directory() / "mini" / f"{name}.yaml").model
        assert bool(model.frame_positions) is name.endswith("_positions")


def test_from_scratch_needs_the_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_PACKAGE", tmp_path / "evlvideo")
    with pytest.raises(UserError, match="needs a checkout of the project"):
        run_demo(tmp_path / "out", seed=1, from_scratch=True)
    assert not (tmp_path / "out").exists()


def test_a_stopped_demo_says_that_it_starts_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise Interrupted("Stopped at step 3, go on with --resume.")

    monkeypatch.setattr(demo, "parallel_trainings", stop)
    with pytest.raises(Interrupted, match="it starts over when it is run again") as told:
        run_demo(tmp_path / "out", seed=1)
    assert "--resume" not in str(told.value)


@pytest.mark.slow
def test_the_demo_takes_at_most_seven_minutes_on_two_cores(tmp_path: Path) -> None:
    started = time.perf_counter()
    comparison = run_demo(tmp_path / "demo", seed=42)
    assert time.perf_counter() - started < 7 * 60
    rows = json.loads((tmp_path / "demo" / "report" / "table.json").read_text(encoding="utf-8"))["rows"]
    assert [row["system"] for row in rows] == [*FINE_TUNED, SCST]
    assert comparison.report.is_file()

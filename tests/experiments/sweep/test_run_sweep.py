import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from toy_run import Toy

from evlvideo.cli.app import main
from evlvideo.cli.evaluation import evaluate
from evlvideo.config.loading import save_config
from evlvideo.config.model import ModelConfig
from evlvideo.config.run import RunConfig
from evlvideo.errors import Interrupted, UserError
from evlvideo.experiments import resumable
from evlvideo.experiments.sweep import run as module
from evlvideo.experiments.sweep.plan import Sweep, plan_sweep
from evlvideo.experiments.sweep.run import run_sweep
from evlvideo.files import read_json
from evlvideo.metrics import java
from evlvideo.models.configuration import EvlVideoConfig
from evlvideo.results.prediction_files import read_predictions
from evlvideo.training.run import train as train_run

pytestmark = pytest.mark.usefixtures("no_java")

QUIET = Console(quiet=True)
FILES = ["sweep.csv", "sweep.json", "sweep.md", "sweep.png", "sweep.svg"]


@pytest.fixture(scope="module")
def config(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("given") / "config.yaml"
    run = toy.config(
        path.parent / "run", model={"fusion": "mean"}, training={"max_steps": 4, "eval_steps": 2, "log_steps": 4}
    )
    save_config(run, path)
    return path


@pytest.fixture(scope="module")
def trained(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A sweep that has run; not to be changed."""
    plan = plan_sweep(config, ["r=0,4"], tmp_path_factory.mktemp("trained") / "sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(java, "_java_on_path", lambda: None)
        patch.setattr(java, "_java_of_package", lambda: None)
        run_sweep(plan, split="validate", console=QUIET)
    return plan


def predictions(directory: Path, split: str = "validate") -> dict[str, str]:
    return read_predictions(directory / "evaluation" / f"mini-{split}" / "predictions.json")


def refuse_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr(resumable, "train", refuse)


def test_each_value_is_trained_and_evaluated_and_everything_is_written(trained: Sweep) -> None:
    assert sorted(path.name for path in trained.out.iterdir()) == ["r-0", "r-4", *FILES]
    record = read_json(trained.out / "sweep.json")
    assert [(p["value"], p["merged_tokens"], p["soft_tokens"]) for p in record["points"]] == [(0, 0, 17), (4, 8, 9)]
    for point, variant in zip(record["points"], trained.variants, strict=True):
        assert point["training_seconds"] == read_json(variant.directory / "training.json")["training_seconds"]
        result = read_json(variant.directory / "evaluation" / "mini-validate" / "result.json")
        assert point["scores"] == result["scores"]
        assert EvlVideoConfig.from_pretrained(variant.directory).merge_r == variant.value


def test_what_is_finished_is_not_trained_again(trained: Sweep, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (trained.out / "sweep.json").read_text()
    refuse_training(monkeypatch)
    run_sweep(plan_sweep(config, ["r=0,4"], trained.out), split="validate", console=QUIET)
    assert (trained.out / "sweep.json").read_text() == before


def test_what_was_stopped_goes_on_and_ends_as_if_it_was_not(
    trained: Sweep, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "sweep"
    plan = plan_sweep(config, ["r=0,4"], out)
    # r=0 is finished, r=4 was stopped after its second step.
    shutil.copytree(trained.out / "r-0", out / "r-0")
    save_config(plan.variants[0].config, out / "r-0" / "config.yaml")
    stopped = out / "r-4"
    shutil.copytree(trained.out / "r-4" / "checkpoints" / "checkpoint-2", stopped / "checkpoints" / "checkpoint-2")
    save_config(plan.variants[1].config, stopped / "config.yaml")
    resumed: list[tuple[str, bool]] = []

    def train(run: RunConfig, *, resume: bool, console: Console | None) -> Path:
        resumed.append((Path(run.output_dir).name, resume))
        return train_run(run, resume=resume, console=console)

    monkeypatch.setattr(resumable, "train", train)
    outcome = run_sweep(plan_sweep(config, ["r=0,4"], out), split="validate", console=QUIET)
    assert resumed == [("r-4", True)]
    assert predictions(stopped) == predictions(trained.out / "r-4")
    whole = read_json(trained.out / "sweep.json")["points"]
    assert [point.scores for point in outcome.points] == [point["scores"] for point in whole]


def test_a_signal_says_which_value_it_stopped(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*arguments: object, **more: object) -> None:
        raise Interrupted("Stopped at step 2.")

    monkeypatch.setattr(resumable, "train", stop)
    with pytest.raises(Interrupted, match="stopped at r=0; the same command goes on"):
        run_sweep(plan_sweep(config, ["r=0,4"], tmp_path / "sweep"), console=QUIET)


class TestEvaluateOnly:
    @pytest.fixture
    def only(self, trained: Sweep, config: Path, tmp_path: Path) -> Callable[..., Sweep]:
        def plan(*settings: str) -> Sweep:
            return plan_sweep(config, settings, tmp_path / "only", checkpoint=str(trained.out / "r-4"))

        return plan

    def test_a_checkpoint_is_evaluated_with_each_value_and_left_as_it_is(
        self, trained: Sweep, only: Callable[..., Sweep], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refuse_training(monkeypatch)
        before = {path: path.stat().st_mtime_ns for path in trained.out.rglob("*")}
        outcome = run_sweep(only("r=0,4,7"), split="validate", console=QUIET)
        assert {path: path.stat().st_mtime_ns for path in trained.out.rglob("*")} == before
        assert [point.merged_tokens for point in outcome.points] == [0, 8, 11]
        # With the value that it was trained with, the checkpoint says what it said.
        assert predictions(tmp_path / "only" / "r-4") == predictions(trained.out / "r-4")
        assert outcome.points[1].scores == read_json(trained.out / "sweep.json")["points"][1]["scores"]
        assert predictions(tmp_path / "only" / "r-7") != predictions(tmp_path / "only" / "r-4")
        assert all(point.training_seconds is None or point.training_seconds >= 0 for point in outcome.points)
        assert sorted(path.name for path in (tmp_path / "only").iterdir()) == ["r-0", "r-4", "r-7", *FILES]

    @pytest.mark.slow
    def test_what_is_evaluated_is_kept_and_more_values_are_added(
        self, only: Callable[..., Sweep], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_sweep(only("data.num_frames=1,2"), split="validate", console=QUIET)
        evaluated: list[int] = []

        def count(*arguments: object, config: object, **more: object) -> object:
            evaluated.append(config.data.num_frames)  # type: ignore[attr-defined]
            return evaluate(*arguments, config=config, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(module, "evaluate", count)
        outcome = run_sweep(only("data.num_frames=1,2,3"), split="validate", console=QUIET)
        assert evaluated == [3]
        assert [point.value for point in outcome.points] == [1, 2, 3]


def test_evaluating_a_run_as_another_model_does_not_replace_its_result(trained: Sweep, toy: Toy) -> None:
    run = trained.out / "r-4"
    changed = replace(toy.config(run), model=ModelConfig(merge_r=2))
    with pytest.raises(UserError, match=r"model.merge_r would make another model of .*r-4"):
        evaluate(run, split="validate", config=changed)


@pytest.mark.usefixtures("restore_logging")
class TestCommand:
    def test_it_shows_the_table_and_says_where_the_figure_is(
        self,
        trained: Sweep,
        config: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        arguments = [str(config), "r=2,4", "--evaluate-only", str(trained.out / "r-4"), "--split", "validate"]
        monkeypatch.setattr(sys, "argv", ["evlvideo", "sweep", *arguments, "--out", str(tmp_path / "out")])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr().out
        assert not ended.value.code
        # Lines break where the paths make them too long.
        assert "CIDEr" in said and "not trained again" in " ".join(said.split())
        assert f"{tmp_path / 'out'}/sweep.svg" in said.replace("\n", "")

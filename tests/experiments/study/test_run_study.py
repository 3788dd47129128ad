import shutil
import sys
from pathlib import Path

import pytest
from rich.console import Console
from toy_run import Toy

from evlvideo.cli.app import main
from evlvideo.config.loading import save_config
from evlvideo.config.run import RunConfig
from evlvideo.errors import Interrupted, UserError
from evlvideo.experiments import resumable
from evlvideo.experiments.study import run as module
from evlvideo.experiments.study.plan import Study, plan_study
from evlvideo.experiments.study.run import run_study
from evlvideo.files import read_json
from evlvideo.metrics import java
from evlvideo.training.run import train as train_run

pytestmark = pytest.mark.usefixtures("no_java")

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def configs(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("given")
    short = {"max_steps": 4, "eval_steps": 2, "log_steps": 4}
    paths = [directory / "mean.yaml", directory / "concat.yaml"]
    for path in paths:
        save_config(toy.config(directory / "run", model={"fusion": path.stem}, training=short), path)
    return paths


def run(study: Study) -> None:
    run_study(study, split="validate", gallery_clips=2, pictures=1, console=QUIET)


@pytest.fixture(scope="module")
def finished(configs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study that has run; not to be changed."""
    study = plan_study(configs, (5, 1), tmp_path_factory.mktemp("finished") / "study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(java, "_java_on_path", lambda: None)
        patch.setattr(java, "_java_of_package", lambda: None)
        run(study)
    return study


def test_each_config_is_a_row_of_its_means_over_seeds(finished: Study) -> None:
    record = read_json(finished.out / "report" / "table.json")
    assert [row["system"] for row in record["rows"]] == ["mean", "concat"]
    for row in record["rows"]:
        scores = {
            str(of.seed): read_json(of.directory / "evaluation" / "mini-validate" / "result.json")["scores"]
            for of in finished.runs
            if of.name == row["system"]
        }
        assert row["values"]["cider"] == pytest.approx(sum(score["cider"] for score in scores.values()) / 2)
        assert {seed: of_seed["cider"] for seed, of_seed in row["by_seed"].items()} == {
            seed: score["cider"] for seed, score in scores.items()
        }
        low, high = row["intervals"]["cider"]
        assert low <= row["values"]["cider"] <= high
        assert row["values"]["trained_parameters"] and row["values"]["training_multiply_adds"]
    assert "cider" in record["rows"][1]["p_values"]
    assert any("seed alone: 5, 1." in remark for remark in record["remarks"])
    assert not any("Not trained alike" in remark for remark in record["remarks"])


def test_seeds_are_other_runs(finished: Study) -> None:
    first, second = (of.directory / "model.safetensors" for of in finished.runs if of.name == "mean")
    assert first.read_bytes() != second.read_bytes()


def test_what_is_finished_is_left_as_it_is(
    finished: Study, configs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **more: object) -> None:
        raise AssertionError("nothing is to be trained or evaluated")

    before = (finished.out / "report" / "table.json").read_text()
    monkeypatch.setattr(resumable, "train", refuse)
    monkeypatch.setattr(module, "evaluate", refuse)
    run(plan_study(configs, (5, 1), finished.out))
    assert (finished.out / "report" / "table.json").read_text() == before


def copy_first_seed(finished: Study, study: Study) -> None:
    """Put the runs of a finished study's first seed where another study has its own."""
    for done, again in zip(finished.runs[:2], study.runs[:2], strict=True):
        shutil.copytree(done.directory, again.directory)
        save_config(again.config, again.directory / "config.yaml")


@pytest.mark.slow
def test_what_was_stopped_goes_on(
    finished: Study, configs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = plan_study(configs, (5, 1), tmp_path / "study")
    copy_first_seed(finished, study)
    half = Path("checkpoints") / "checkpoint-2"
    shutil.copytree(finished.runs[2].directory / half, study.runs[2].directory / half)
    save_config(study.runs[2].config, study.runs[2].directory / "config.yaml")
    trained: list[tuple[str, bool]] = []

    def train(config: RunConfig, *, resume: bool, console: Console | None) -> Path:
        trained.append((config.output_dir.removeprefix(f"{study.out}/"), resume))
        return train_run(config, resume=resume, console=console)

    monkeypatch.setattr(resumable, "train", train)
    run(plan_study(configs, (5, 1), study.out))
    assert trained == [("seed-1/mean", True), ("seed-1/concat", False)]
    rows = [read_json(of.out / "report" / "table.json")["rows"] for of in (finished, study)]
    assert [row["by_seed"] for row in rows[0]] == [row["by_seed"] for row in rows[1]]


def test_a_stop_leaves_the_table_of_whole_seeds_and_says_where_it_was(
    finished: Study, configs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = plan_study(configs, (5, 1), tmp_path / "study")
    copy_first_seed(finished, study)

    shutil.rmtree(study.runs[1].directory / "evaluation")

    def stop(*arguments: object, **more: object) -> None:
        raise Interrupted("Stopped at step 2.")

    monkeypatch.setattr(resumable, "train", stop)
    with pytest.raises(Interrupted, match=r"The study was stopped at mean, seed 1 \(3 of 4\); the same command"):
        run(study)
    rows = read_json(study.out / "report" / "table.json")["rows"]
    assert [row["system"] for row in rows] == ["mean", "concat"]
    assert [row["by_seed"] for row in rows] == [{}, {}]


def test_a_row_that_is_not_there_is_refused_before_anything_is_trained(configs: list[Path], tmp_path: Path) -> None:
    study = plan_study(configs, (5,), tmp_path / "study")
    with pytest.raises(UserError, match="--against 'mena' is no row; allowed: mean, concat"):
        run_study(study, against="mena", console=QUIET)
    assert not study.out.exists()


@pytest.mark.usefixtures("restore_logging")
class TestCommand:
    def test_it_shows_the_table_and_says_where_the_report_is(
        self,
        finished: Study,
        configs: list[Path],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        arguments = [*map(str, configs), "--seeds", "5,1", "--out", str(finished.out), "--split", "validate"]
        monkeypatch.setattr(sys, "argv", ["evlvideo", "study", *arguments, "--clips", "0", "--pictures", "0"])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr().out
        assert not ended.value.code
        assert "CIDEr over seeds" in said and "mean (2 seeds)" in said
        assert f"{finished.out}/report/report.html" in said.replace("\n", "")

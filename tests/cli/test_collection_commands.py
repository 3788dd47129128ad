"""The commands that caption a collection into a dataset and filter it, as they print and refuse."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toy_run import ROOT, Toy, environment

from evlvideo.cli.app import main


@pytest.fixture(scope="module")
def finished(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.finished_run(tmp_path_factory.mktemp("collecting") / "run", fusion="concat")


@pytest.fixture
def folder(toy: Toy, tmp_path: Path) -> Path:
    """Five clips, and a file that is none."""
    (tmp_path / "clips").mkdir()
    for number, clip in enumerate(toy.clips("test")[:5]):
        shutil.copy(clip.video, tmp_path / f"clips/clip{number}.mp4")
    (tmp_path / "clips/broken.mp4").write_bytes(b"no video")
    return tmp_path / "clips"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run a command line in this process, and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["evlvideo", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_a_folder_becomes_a_dataset_that_is_filtered(
    finished: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, kept = folder / "captions.jsonl", folder / "kept/captions.jsonl"
    command = ("caption", folder, "--checkpoint", finished, "--out", out, "--captions", "2")
    assert run(monkeypatch, *command) == 1
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"{out}: 10 captions of 5 files.",
        f"Train on it with dataset: jsonl, root: {folder}.",
    ]
    assert f"1 file has no captions; {folder / 'captions.bad.jsonl'} says why." in said.err
    before = out.read_bytes()
    assert run(monkeypatch, *command) == 1
    assert "10 captions of 5 files, 5 of them by an earlier call." in capsys.readouterr().out
    assert out.read_bytes() == before
    assert run(monkeypatch, *command, "--set", "seed=3") == 2
    assert "decoding.seed: 42 there, 3 asked for" in capsys.readouterr().err
    assert run(monkeypatch, "data", "filter", out, "--agreement", "--share", "0.3", "--out", kept) == 0
    assert f"{kept}: 3 of 10 captions and" in capsys.readouterr().out
    assert run(monkeypatch, "data", "filter", out, "--agreement", "--share", "0.3", "--out", out) == 2
    assert "is the file that is filtered" in capsys.readouterr().err


@pytest.mark.parametrize("more", [(), ("--agreement", "--matching", "run")])
def test_there_is_one_thing_to_filter_by(
    tmp_path: Path, more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "captions.jsonl").write_text("")
    assert run(monkeypatch, "data", "filter", tmp_path / "captions.jsonl", "--out", tmp_path / "out", *more) == 2
    assert "Name what to filter by: either --matching MODEL or --agreement." in capsys.readouterr().err


def test_a_split_that_no_dataset_has_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("caption", folder, "--checkpoint", "mini", "--out", folder / "captions.jsonl", "--split", "val")
    assert run(monkeypatch, *given) == 2
    assert "The split is 'val'; allowed: train, validate, test." in capsys.readouterr().err


def test_two_processes_write_what_one_does(
    finished: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (folder / "broken.mp4").unlink()
    arguments = ["caption", folder, "--checkpoint", finished, "--captions", "2", "--set", "generation.batch_size=2"]
    arguments += ["--set", "generation.do_sample=true"]
    assert run(monkeypatch, *arguments, "--out", folder / "captions.jsonl") == 0
    path = [str(ROOT), str(ROOT / "tests" / "helpers")]
    (tmp_path / "program.py").write_text(f"import sys; sys.path[:0] = {path!r}\nimport toy_run\ntoy_run.run()")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(tmp_path / "program.py"), *map(str, arguments), "--out", str(folder / "two.jsonl")],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "two.jsonl").read_text() == (folder / "captions.jsonl").read_text()

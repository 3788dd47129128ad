"""The commands that answer questions, as they print and refuse."""

import json
import sys
from pathlib import Path

import pytest
from toy_run import Toy

from evlvideo.cli.app import main
from evlvideo.data.annotation.questions.splits import read_questions
from evlvideo.mini import rendered
from evlvideo.mini.images.build import build_mini_images


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run a command line in this process, and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["evlvideo", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_each_answer_is_a_line_with_file_and_question(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    video, broken = toy.clips("test")[0].video, tmp_path / "broken.mp4"
    broken.write_bytes(b"")
    asked = ("--question", "What moves?", "--question", "Is it\tred?", "--checkpoint", toy.checkpoint)
    assert run(monkeypatch, "answer", video, broken, *asked, "--set", "data.num_workers=0") == 1
    said = capsys.readouterr()
    lines = [line.split("\t") for line in said.out.splitlines()]
    assert [line[:2] for line in lines] == [[str(video), "What moves?"], [str(video), "Is it red?"]]
    assert "1 of 2 files could not be decoded" in said.err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--question", "what?"), "No files were given; name at least one image or video."),
        (("a.png", "--question", " "), "The questions are [' ']; give at least one, and none that is empty."),
        (("a.png", "--question", "what?"), "1 of 1 videos do not exist: a.png."),
    ],
)
def test_what_is_missing_is_one_sentence(
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "answer", *arguments, "--checkpoint", "mini") == 2
    assert f"error: {message}" in capsys.readouterr().err


def test_a_dataset_of_questions_is_answered_and_scored(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = {"video": toy.clips("test")[0].video.name, "question": "what?", "split": "test", "answers": ["a ball"]}
    (tmp_path / "questions.jsonl").write_text(json.dumps(line))
    where = (
        "--dataset",
        "jsonl_qa",
        "--root",
        tmp_path,
        "--media-root",
        toy.data / "videos",
        "--out",
        tmp_path / "out",
    )
    assert run(monkeypatch, "evaluate-answers", toy.checkpoint, "data.num_workers=0", *where) == 0
    said = capsys.readouterr().out
    assert "1 questions of jsonl_qa:test" in said and f"scores are in {tmp_path / 'out'}" in said


def test_an_unknown_dataset_of_questions_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "evaluate-answers", "mini", "--dataset", "vqa", "--root", tmp_path) == 2
    assert "error: The dataset of questions is 'vqa'; allowed: vqav2, okvqa" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_rendered_dataset_needs_no_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"shards": 1, "lavis": 1, "train": 1, "validate": 1, "test": 2}
    root = build_mini_images(tmp_path / "set", progress=False, sizes=sizes)
    monkeypatch.setitem(rendered.RENDERED, "mini_images", lambda: root)
    asked = read_questions("mini_images", "test", root)
    (tmp_path / "answers.json").write_text(json.dumps({one.question_id: one.answers[0] for one in asked}))
    assert run(monkeypatch, "score-answers", tmp_path / "answers.json", "--dataset", "mini_images") == 0
    assert "6 questions of mini_images:test" in capsys.readouterr().out
    assert run(monkeypatch, "data", "verify", "mini_images", "--no-check-counts") == 0
    assert "test: 6 questions" in capsys.readouterr().out


@pytest.mark.parametrize("command", [("score-answers", "a.json"), ("evaluate-answers", "mini")])
def test_another_dataset_of_questions_needs_a_root(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *command, "--dataset", "vqav2") == 2
    assert "error: The dataset 'vqav2' has no root; set data.root" in capsys.readouterr().err

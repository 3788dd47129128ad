"""`evlvideo caption --out DIRECTORY` as it prints, ends and refuses."""

import re
import sys
from pathlib import Path

import pytest

from evlvideo.cli.app import main


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run a command line in this process, and return its exit status."""
    monkeypatch.setattr(sys, "argv", ["evlvideo", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_the_end_says_what_is_done_and_what_failed(
    captioner: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ("caption", clips, "--checkpoint", captioner, "--out", out, "--also", "jsonl, txt")
    assert run(monkeypatch, *command) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert re.fullmatch(rf"{out}: 6 rows with captions, 1 failed, in \d+(\.\d)? s\.", lines[0])
    assert lines[1].startswith(f"{out}/captions.jsonl: Train on it with dataset: jsonl, root: {out}, video_root: ")
    assert lines[2] == f"{out}/txt: 6 text files, named as in {clips}."
    assert f"The column error of {out}/part-*.parquet says why rows failed." in said.err
    assert run(monkeypatch, *command) == 0
    assert "; 7 of these rows by an earlier call." in capsys.readouterr().out
    assert run(monkeypatch, *command, "--set", "seed=3") == 2
    assert "decoding.seed: 42 there, 3 asked for" in capsys.readouterr().err
    assert run(monkeypatch, *command, "--set", "seed=3", "--overwrite") == 0


def test_it_fails_if_no_row_has_a_caption(
    captioner: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("caption", clips / "broken.mp4", "--checkpoint", captioner, "--out", tmp_path / "out")
    for _ in range(2):
        assert run(monkeypatch, *command) == 1
        assert "0 rows with captions, 1 failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("clips/clip0.mp4", "--also", "txt"), "--also and --overwrite need --out DIRECTORY."),
        (("clips", "--out", "a.jsonl", "--overwrite"), "--also and --overwrite need --out DIRECTORY."),
        (("table.csv", "--out", "a.jsonl"), "table.csv needs --out DIRECTORY; with --also jsonl"),
        (
            ("clips", "--out", "out", "--also", "xml"),
            "The form 'xml' is unknown; allowed: jsonl, webvid, txt, srt, vtt.",
        ),
        (("clips", "--out", "out", "--split", "val"), "The split is 'val'; allowed: train, validate, test."),
        (("clips", "--out", "out", "--captions", "0"), "The number of captions a video is 0; it must be at least 1."),
        (("clips", "--out", "out", "--captions", "9"), "9 captions a video need as many beams"),
        (("table.csv", "--out", "out"), "table.csv has no column path; its header is 'file'."),
        (("clips/none", "--out", "out"), "1 of 1 sources do not exist: clips/none."),
    ],
)
def test_a_mistake_is_a_sentence(
    captioner: Path,
    clips: Path,
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(clips.parent)
    Path("table.csv").write_text("file\na.mp4\n")
    assert run(monkeypatch, "caption", *arguments, "--checkpoint", captioner) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
